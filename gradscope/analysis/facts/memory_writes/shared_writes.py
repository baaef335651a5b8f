"""Writes in place that show in other tensors of the program: which statement wrote, and what changed with it."""

from __future__ import annotations

from dataclasses import dataclass, field

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import REQUIRES_GRAD

_PUT = "Tensor.set_"
"""Puts a tensor on other memory, and raises its version; it writes no value."""


@dataclass(eq=False, repr=False)
class SharedWrite:
    """What one function wrote at one statement into memory that other named tensors are on."""

    statement: int
    op: int
    """The last call."""
    is_step: bool
    written: list[int] = field(default_factory=list)
    """Tensors through which it was written, one of each memory block."""
    seen_by: list[int] = field(default_factory=list)
    """Other tensors on that memory, alive and named differently."""
    past_autograd: bool = False
    """Autograd tracks one of them under another version counter than the one that was raised, if any was."""


def is_named_there(index: Index, names: BestNames, write: SharedWrite) -> bool:
    """Whether all that it was written through are items that the line takes of the others, by the names that it has.

    ``x[0] += 1`` changes ``x``: that is what the line says.
    """
    taken_of = set[int]()
    for tensor in write.written:
        made = index.made_by(tensor)
        if made < 0 or index.op_statement[made] != write.statement or not index.func(made).endswith("__getitem__"):
            return False
        taken_of.update(index.uses.of(made)[:1])
    source = index.op_place(write.op).source
    return taken_of.issuperset(write.seen_by) and all(names.at(one, write.op) in source for one in write.seen_by)


def shared_writes(index: Index, names: BestNames, sharing: StorageGroups) -> list[SharedWrite]:
    """Every statement and function that wrote in place into shared memory, in the order of the first write."""
    funcs = index.recording.ops.column("func")
    last: dict[tuple[int, int], dict[int, tuple[int, int, bool]]] = {}
    for op, tensor, before, _ in writes_by_program(index):
        statement, storage = index.op_statement[op], index.storage_at(tensor, op)
        if index.func(op) == _PUT:
            continue
        if storage in sharing.tensors_on and statement != NOWHERE:
            last.setdefault((statement, funcs[op]), {})[storage] = (op, tensor, before == NONE)
    found = [_collect(index, names, sharing, statement, blocks) for (statement, _), blocks in last.items()]
    return [write for write in found if write.seen_by]


def _collect(
    index: Index, names: BestNames, sharing: StorageGroups, statement: int, blocks: dict[int, tuple[int, int, bool]]
) -> SharedWrite:
    """The last write to each memory block as one."""
    last_op = max(op for op, _, _ in blocks.values())
    collected = SharedWrite(statement, last_op, is_step(index, last_op))
    flags = index.recording.tensors.column("flags")
    for storage, (op, tensor, is_past) in blocks.items():
        others = _named_beside(index, names, sharing, sharing.tensors_on[storage], tensor, op)
        if not others:
            continue
        collected.written.append(tensor)
        collected.seen_by += others
        counter = sharing.versions.of(tensor)
        collected.past_autograd |= any(
            flags[other] & REQUIRES_GRAD and (is_past or sharing.versions.of(other) != counter) for other in others
        )
    return collected


def _named_beside(
    index: Index, names: BestNames, sharing: StorageGroups, on_block: list[int], written: int, op: int
) -> list[int]:
    """Tensors on the written bytes with another name, alive at the op; one for each name, the last that bore it."""
    best, tensors = names.best, index.recording.tensors
    made_at, died = tensors.column("op"), tensors.column("died")
    last = {best[tensor]: tensor for tensor in on_block if best[tensor] >= 0 and best[tensor] != best[written]}
    alive = [tensor for tensor in last.values() if made_at[tensor] <= op and not 0 <= died[tensor] <= op]
    place = sharing.range_of(written)
    return [tensor for tensor in alive if overlap(sharing.range_of(tensor), place)]
