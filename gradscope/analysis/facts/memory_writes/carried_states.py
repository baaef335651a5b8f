"""Parameters in whose place a forward pass puts what the network computed, after it used them: a state that is carried.

The pass gives the gradient of the values that were used, and the step adds it to others; the next forward pass drops
what came of it. A value to which the parameter itself goes without a network between (an average, a scaled copy) is
none.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.overwritten_weights import STEPS, whole_copies
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, GRAD, GRADIENT, PARAMETER
from gradscope.recording.rows import OpKind

_SETS = "Tensor.data.__set__"
_FOLLOWED = 64
"""Tensors that are looked at to find what a value was computed from."""


class CarriedState(NamedTuple):
    """One parameter."""

    tensor: int
    writes: tuple[int, ...]
    """One after each step but the last."""
    read: int
    """The use before the last of them."""


def carried_states(index: Index, lives: GradientLives) -> list[CarriedState]:
    """Every parameter with which that was done between any two steps."""
    sets: dict[int, list[tuple[int, int]]] = {}
    for op in index.calls_of(_SETS.__eq__):
        taken = list(index.uses.of(op))
        if len(taken) == 2 and index.op_statement[op] != NOWHERE:
            sets.setdefault(taken[0], []).append((op, taken[1]))
    copies = whole_copies(index)
    found = []
    for tensor, steps in lives.steps.items():
        writes = sorted(sets.get(tensor, []) or copies.get(index.storage_at(tensor, steps[-1]), []))
        if len(steps) < STEPS or not writes or not index.recording.tensors.column("flags")[tensor] & PARAMETER:
            continue
        pairs = [_between(index, lives, tensor, writes, step, following) for step, following in pairwise(steps)]
        if all(write >= 0 for write, _ in pairs):
            found.append(CarriedState(tensor, tuple(write for write, _ in pairs), pairs[-1][1]))
    return found


def _between(
    index: Index, lives: GradientLives, tensor: int, writes: list[tuple[int, int]], step: int, following: int
) -> tuple[int, int]:
    """The first write between two steps, and the use with a graph before it, where it is one; NONE for none."""
    at = bisect_right(writes, (step, index.op_count))
    op, value = writes[at] if at < len(writes) else (NONE, NONE)
    if not step < op < first_after(lives.passes[tensor], step) <= following:
        return NONE, NONE
    flags = index.recording.ops.column("flags")
    reads = [use for use in index.users.of(tensor) if step < use < op and flags[use] & GRAD and index.tensors_made(use)]
    return (op, reads[-1]) if reads and _is_of_network(index, value, tensor, reads[-1]) else (NONE, NONE)


def _is_of_network(index: Index, value: int, tensor: int, read: int) -> bool:
    """Whether a value was computed by calls that take other parameters, and not from one parameter without these."""
    tensors, kinds = index.recording.tensors, index.recording.ops.column("kind")
    flags, own = tensors.column("flags"), index.storage_at(tensor, read)
    todo, seen, is_network = [value], {value}, False
    while todo:
        one = todo.pop()
        made = index.made_by(one)
        if index.storage_at(one, read) == own or flags[one] & GRADIENT or len(seen) > _FOLLOWED:
            return False
        if flags[one] & (EXTERNAL | PARAMETER) or not 0 <= made < index.op_count:
            continue
        if kinds[made] in (OpKind.BACKWARD, OpKind.GRAD, OpKind.STEP):
            return False
        taken = list(index.uses.of(made))
        if any(flags[each] & PARAMETER and each != tensor for each in taken):
            is_network = True
            continue
        todo += [each for each in taken if each not in seen]
        seen.update(taken)
    return is_network
