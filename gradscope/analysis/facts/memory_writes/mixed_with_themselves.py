"""Parameters that a program mixes into others, of which some are mixed into themselves.

``for p, q in zip(online.parameters(), target.parameters()): q.lerp_(p, 0.01)``: where both models have one and the same
parameter, it is averaged with itself. So it is where one model is loaded from the other.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index

_MIXES = frozenset("lerp_ copy_ add_ __iadd__ load_state_dict _foreach_lerp_ _foreach_add_ _foreach_copy_".split())  # noqa: SIM905


def mixed_into_itself(index: Index, sharing: StorageGroups, tensor: int, others: list[int]) -> int:
    """The first op that wrote a tensor from itself, in a statement that wrote one of others from another; -1: none."""
    for op, count in _writes(index, sharing, tensor):
        if count > 1:
            statement = index.op_statement[op]
            if any(
                index.op_statement[another] == statement and times == 1 and len(index.uses.of(another)) > 1
                for other in others
                for another, times in _writes(index, sharing, other)
            ):
                return op
    return -1


def _writes(index: Index, sharing: StorageGroups, tensor: int) -> Iterator[tuple[int, int]]:
    """The calls that write into a tensor's memory what they take, each with how often it took that memory itself."""
    storages = index.recording.tensors.column("storage")
    storage = storages[tensor]
    ops = (
        {op for one in sharing.tensors_on.get(storage, [tensor]) for op in index.users.of(one)}
        if storage >= 0
        else set[int]()
    )
    for op in sorted(ops):
        if index.call_name(op).rpartition(".")[2] in _MIXES:
            yield op, sum(storages[one] == storage for one in index.uses.of(op))
