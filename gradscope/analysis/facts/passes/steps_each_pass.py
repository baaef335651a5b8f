"""Losses divided for an accumulation over several passes, where each pass had a step of its own and was cleared."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.index import Index
from gradscope.frames.blocks.divided_rounds import DividedRounds, divided_rounds
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_DIVIDES = frozenset(("div", "div_"))
_LEAST = 3
"""Passes from which on it counts: the first round of all may have a step by its number."""


class StepsEachPass(NamedTuple):
    """One condition that was true in every round."""

    rounds: DividedRounds
    file: int
    step: int
    """The last step."""
    divided: int
    """The call that divided the loss of the last pass."""
    passes: int
    tensors: list[int]


def steps_each_pass(index: Index, lives: GradientLives) -> Iterator[StepsEachPass]:
    """One for each line that calls backward for a divided loss."""
    kinds, spans = (index.recording.ops.column(name) for name in ("kind", "span"))
    by_passes: dict[tuple[int, ...], list[int]] = {}
    for tensor in lives.steps:
        by_passes.setdefault(tuple(lives.passes.get(tensor, ())), []).append(tensor)
    for passes, tensors in by_passes.items():
        is_one = len({spans[op] for op in passes}) == 1 and all(kinds[op] == OpKind.BACKWARD for op in passes)
        if not is_one or len(passes) < _LEAST or not all(_has_one_each(lives, tensor) for tensor in tensors):
            continue
        step, divided = lives.steps[tensors[0]][-1], _divided_at(index, passes[-1])
        where = index.statements[index.op_statement[step]]
        if len({index.op_statement[one] for one in lives.steps[tensors[0]]}) > 1:
            continue  # (another line steps where the condition is false)
        if divided < 0 or where.file < 0 or index.statements[index.op_statement[divided]].file != where.file:
            continue
        text = index.recording.files[where.file].text
        rounds = divided_rounds(text, index.op_line(step), index.op_line(divided))
        if rounds is not None:
            yield StepsEachPass(rounds, where.file, step, divided, index.times(passes), tensors)


def _has_one_each(lives: GradientLives, tensor: int) -> bool:
    """Whether a step followed each pass of a parameter, and its gradient was cleared before the next one."""
    passes, steps = lives.passes[tensor], lives.steps[tensor]
    cleared = lives.cleared.get(tensor, [])
    are_paired = len(passes) == len(steps) and all(at < step for at, step in zip(passes, steps, strict=True))
    return are_paired and all(
        step < after and ops_between(cleared, at, after)
        for (at, after), step in zip(pairwise(passes), steps, strict=False)
    )


def _divided_at(index: Index, op: int) -> int:
    """The call that divided what a pass started from, as the last thing that was done to it; NONE where none did."""
    roots = index.roots[op]
    if len(roots) != 1:
        return NONE
    made = index.recording.tensors.column("op")[roots[0]]
    calls = [made, *(one for one in index.users.of(roots[0]) if made < one < op and index.method(one).endswith("_"))]
    last = calls[-1]
    divides = index.method(last).rpartition(".")[2] in _DIVIDES
    return last if divides and len(index.uses.of(last)) == 1 else NONE
