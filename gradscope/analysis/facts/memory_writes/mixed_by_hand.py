"""Averages of weights that are computed by hand, whatever the form: ``a.mul_(m).add_(w, alpha=1 - m)``,
``a.copy_(m * a + (1 - m) * w)``, ``a.data = m * a.data + (1 - m) * w.data``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_SCALES, _ADDS = "Tensor.mul_", "Tensor.add_"
_COMPUTED = frozenset(
    f"{owner}.{name}" for owner in ("Tensor", "torch") for name in ("mul", "__rmul__", "add", "sub", "lerp", "div")
)
"""Functions that an average is put together of."""
_SAME = frozenset(("Tensor.detach", "Tensor.data.__get__", "Tensor.clone"))
_NEAR = 4
"""Ops before an addition among which the average was multiplied by what is kept of it."""
_STEPS = 8
"""Calls from the weights to what is written."""


def mixed_by_hand(index: Index, leaves: Collection[int]) -> Iterator[tuple[int, int, int]]:
    """Each write that makes one leaf an average of itself and another one: the op, the leaf, the other.

    Args:
        index: The recording's.
        leaves: Those among which both are.
    """
    of_memory = {
        storage: leaf
        for leaf in leaves
        for storage in (index.storage_at(leaf, NONE), *(storage for _, storage in index.moves.get(leaf, ())))
        if storage >= 0
    }
    kinds, scaled = index.recording.ops.column("kind"), dict[int, int]()
    written = [(op, tensor) for op, tensor, _, _ in writes_by_program(index) if kinds[op] == OpKind.CALL]
    moved = [(op, leaf) for leaf in leaves for op, _ in index.moves.get(leaf, ()) if op < index.op_count]
    for op, tensor in sorted({*written, *moved}):
        average = tensor if tensor in leaves else of_memory.get(index.storage_at(tensor, op), NONE)
        if average < 0 or index.op_statement[op] == NOWHERE:
            continue
        name, taken = index.func(op), list(index.uses.of(op))
        if name == _SCALES and len(taken) == 1:
            scaled[average] = op
            continue
        given = taken[1:]
        if tensor in index.moves and any(at == op for at, _ in index.moves[tensor]):
            # (what it was put on has that value's memory from then on)
            given = [one for value in given for one in _computed_of(index, value, op)] or given
        of = {one for value in given for one in _behind(index, value, op, of_memory)}
        if name == _ADDS:
            of |= {average} if op - scaled.get(average, -2 * _NEAR) <= _NEAR else set()
        if len(of) == 2 and average in of and NONE not in of:
            (weight,) = of - {average}
            yield op, average, weight


def _behind(index: Index, tensor: int, op: int, of_memory: dict[int, int]) -> Iterator[int]:
    """The leaves that a value is computed of, right before it is written; NONE for what is none of them."""
    todo, left = [tensor], _STEPS
    while todo and left:
        one, left = todo.pop(), left - 1
        leaf = of_memory.get(index.storage_at(one, op), NONE)
        if leaf >= 0:
            yield leaf
        elif behind := _computed_of(index, one, op):
            todo += behind
        else:
            yield NONE


def _computed_of(index: Index, tensor: int, before: int) -> list[int]:
    """What an average, or a part of it, was computed of; empty for what is none."""
    made = index.made_by(tensor)
    return list(index.uses.of(made)) if 0 <= made < before and index.func(made) in _COMPUTED | _SAME else []
