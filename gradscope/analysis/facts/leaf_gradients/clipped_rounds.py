"""Rounds of a training in which a line clips the gradients, and those between them in which nothing does."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby, pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, ops_between
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE

OFTEN = 3
"""Clipped rounds from which on it is told whether they come in equal distances."""


class RoundOfStep(NamedTuple):
    """The passes whose gradients one step applied."""

    passed: int
    """The last of them."""
    step: int
    clip: int
    """The call that clipped what they gave; NONE for none."""


class ClippedRounds(NamedTuple):
    """The rounds of one parameter, in order."""

    rounds: list[RoundOfStep]
    is_regular: bool
    """Whether the clipped ones come in equal distances."""

    @property
    def clipped(self) -> list[RoundOfStep]:
        """The rounds in which the line clips."""
        return [one for one in self.rounds if one.clip >= 0]

    @property
    def unclipped(self) -> list[RoundOfStep]:
        """The rounds in which nothing does."""
        return [one for one in self.rounds if one.clip < 0]


def clipped_rounds(index: Index, lives: GradientLives, leaf: int, clips: Collection[int]) -> ClippedRounds | None:
    """The rounds of a parameter, where some calls clip its gradient now and then, and nothing else writes it.

    All are of the same lines: one makes the loss, one runs backward, one steps. Clipping in the first rounds alone, or
    from one on, is another matter, and None as well.
    """
    rounds, calls, put = list[RoundOfStep](), sorted(clips), lives.put.get(leaf, [])
    for step in lives.steps.get(leaf, ()):
        applied = lives.applied(leaf, step)
        if not applied:
            continue
        clip = first_after(calls, applied[-1])
        clip = clip if clip < step else NONE
        if set(ops_between(put, applied[0], step)) - {clip}:
            return None
        rounds.append(RoundOfStep(applied[-1], step, clip))
    runs = [is_clipped for is_clipped, _ in groupby(rounds, lambda one: one.clip >= 0)]
    if runs.count(True) < 2 or len({_lines(index, one) for one in rounds}) != 1:
        return None
    at = [number for number, one in enumerate(rounds) if one.clip >= 0]
    gaps = {later - earlier for earlier, later in pairwise(at)}
    return ClippedRounds(rounds, len(at) >= OFTEN and len(gaps) == 1)


def _lines(index: Index, one: RoundOfStep) -> tuple[int, ...]:
    """The statements that make what a pass starts from, run it, and step."""
    made = [index.recording.tensors.column("op")[root] for root in index.roots.get(one.passed, ())]
    makers = [index.op_statement[op] if 0 <= op < index.op_count else NOWHERE for op in made]
    return (*makers, index.op_statement[one.passed], index.op_statement[one.step])
