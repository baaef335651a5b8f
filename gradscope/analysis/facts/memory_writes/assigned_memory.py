"""Parameters that ``x.data = y.data`` put on the memory of others, again and again, as if it copied their values."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.recording import NONE

STEPS = 2
"""Steps between two runs of the statement."""

_SETS = "Tensor.data.__set__"
_SAME_MEMORY = ("Tensor.data.__get__", "Tensor.detach", "Tensor.requires_grad_")


class AssignedMemory(NamedTuple):
    """One statement that was run again when both lay on one memory."""

    op: int
    """Its last call."""
    pairs: list[tuple[int, int]]
    """What was set, and the parameter on whose memory it was put."""
    steps: int
    """Steps that changed one of these between two runs of the statement."""


def assigned_again(index: Index, lives: GradientLives) -> list[AssignedMemory]:
    """The statements that gave a parameter the memory that it had already, several steps later: a copy was meant.

    What is put there again after each step may be meant to be one with the other.
    """
    last: dict[tuple[int, int], int] = {}
    found: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}
    for op in index.calls_of(lambda name: name == _SETS):
        taken = index.uses.of(op)
        pair = (taken[0], _source(index, taken[1])) if len(taken) == 2 else (NONE, NONE)
        steps = lives.steps.get(pair[1], ())
        if not steps or pair[0] == pair[1] or pair[0] in lives.steps:
            continue
        between = sum(last.get(pair, op) < step < op for step in steps)
        if between >= STEPS and index.storage_at(pair[0], op - 1) == index.storage_at(pair[1], op - 1):
            found.setdefault(index.op_statement[op], {})[pair] = (op, between)
        last[pair] = op
    return [
        AssignedMemory(max(op for op, _ in seen.values()), list(seen), max(count for _, count in seen.values()))
        for seen in found.values()
    ]


def _source(index: Index, value: int) -> int:
    """The tensor whose ``.data`` a value is; the value itself where it is nobody's."""
    made = index.made_by(value)
    if 0 <= made < index.op_count and index.func(made) in _SAME_MEMORY and len(index.uses.of(made)):
        return index.uses.of(made)[0]
    return value
