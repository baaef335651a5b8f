"""Updates by gradients of a copy of weights, which nothing writes back: the weights stay as they are.

``theta = parameters_to_vector(net.parameters()); theta -= lr * gradient``, and no ``vector_to_parameters``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.unkept_states import is_of_gradient
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER
from gradscope.recording.rows import OpKind

RUNS = 2
"""Updates from which on it is reported."""
_VECTOR = "nn.utils.parameters_to_vector"
_COPIES = frozenset((_VECTOR, "Tensor.clone", "Tensor.cat", "Tensor.concat", "Tensor.hstack"))
_SAME_VALUES = frozenset(
    f"Tensor.{name}"
    for name in ("detach", "data.__get__", "view", "reshape", "flatten", "ravel", "clone", "contiguous", "view_as")
)
_UPDATES = frozenset(f"Tensor.{name}{end}" for name in ("add", "sub", "addcmul", "addcdiv") for end in ("", "_"))
_STEPS = 4
"""Calls through which values are followed."""


class UpdatedCopy(NamedTuple):
    """What one statement updated in all of its runs."""

    op: int
    """The last update."""
    copied: int
    """The call that made the copy then."""
    leaves: list[int]
    """The weights, which nothing has written since the first copy."""
    runs: int


def updated_copies(index: Index, lives: GradientLives) -> Iterator[UpdatedCopy]:
    """One for each statement whose updates nothing took."""
    found: dict[int, list[tuple[int, int, list[int]]] | None] = {}
    for copied in index.calls_of_methods(*_COPIES):
        leaves = _leaves(index, copied)
        made = index.tensors_made(copied)
        for op in index.users.of(made[-1]) if leaves and made else ():
            statement = index.op_statement[op]
            if op <= copied or not _is_update(index, lives, op, made[-1]):
                continue
            given = index.tensors_made(op) or [made[-1]]
            if found.get(statement, ()) is None or not _is_lost(index, given[0], op):
                found[statement] = None
            else:
                known = found.setdefault(statement, [])
                if known is not None:
                    known.append((op, copied, leaves))
    written = last_written(index) if any(found.values()) else {}
    for updates in found.values():
        if not updates or index.times(op for op, *_ in updates) < RUNS:
            continue
        first, all_leaves = updates[0][1], list(dict.fromkeys(chain.from_iterable(one[2] for one in updates)))
        if any(leaf in index.moves or written.get(index.storage_at(leaf, first), NONE) > first for leaf in all_leaves):
            continue
        op, copied, _ = updates[-1]
        if not all(_is_gone(index, one[0]) for one in updates[:-1]):
            continue
        yield UpdatedCopy(op, copied, all_leaves, index.times(one[0] for one in updates))


def _is_gone(index: Index, op: int) -> bool:
    """Whether what an update gave, or wrote, did not live until the end."""
    died = index.recording.tensors.column("died")
    return all(died[one] >= 0 for one in (index.tensors_made(op) or index.uses.of(op)[:1]))


def _leaves(index: Index, copied: int) -> list[int]:
    """The parameters of whose values alone a call made a copy; none where something else went in."""
    taken = [_source(index, one) for one in index.uses.of(copied)]
    flags = index.recording.tensors.column("flags")
    is_one = all(index.is_leaf_with_grad(one, copied) or flags[one] & PARAMETER for one in taken)
    return taken if taken and is_one else []


def _source(index: Index, tensor: int) -> int:
    """The tensor that has the values of one, as far back as calls did no more than hand them on."""
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    for _ in range(_STEPS):
        op = made_at[tensor]
        if flags[tensor] & EXTERNAL or op >= index.op_count or index.method(op) not in _SAME_VALUES:
            break
        tensor = index.uses.of(op)[0]
    return tensor


def _is_update(index: Index, lives: GradientLives, op: int, tensor: int) -> bool:
    taken = index.uses.of(op)
    others = [one for one in taken if one != tensor]
    is_call = index.recording.ops.column("kind")[op] == OpKind.CALL and index.method(op) in _UPDATES
    return is_call and taken[0] == tensor and any(is_of_gradient(index, lives, one) for one in others)


def _is_lost(index: Index, tensor: int, since: int, steps: int = _STEPS) -> bool:
    """Whether nothing but numbers for a look, and further updates that are lost, was made of a tensor since an op."""
    for op in index.users.of(tensor):
        if op <= since:
            continue
        made = index.tensors_made(op)
        if index.recording.ops.column("kind")[op] == OpKind.EXPORT or (made and all(map(index.has_one_element, made))):
            continue
        given = made or [tensor]
        if steps == 0 or index.method(op) not in _UPDATES or index.uses.of(op)[0] != tensor:
            return False
        if not _is_lost(index, given[0], op, steps - 1):
            return False
    return True
