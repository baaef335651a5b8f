"""Which steps follow which passes: of one line, and of the rounds of two networks.

A loop over optimizers calls backward in one line: its last pass is that of the last optimizer alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import permutations
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


class TwoSteps(NamedTuple):
    """Two steps of one round."""

    step: int
    other: int
    before: int
    """The step before those between which there is no pass; NONE for none."""


class RoundOfTwo(NamedTuple):
    """A round in which the step of one network applied gradients of two passes."""

    own: int
    """The pass of this network's own loss."""
    other: int
    """That of the other's."""
    step: int
    other_step: int


class PassesByStep:
    """The steps that follow the passes of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def step_after(self, op: int) -> int:
        """The step that follows a pass before the next pass; NONE where none does."""
        step = first_after(self._steps, op)
        return NONE if step < 0 or 0 <= first_after(self._passes, op) < step else step

    def updated(self, step: int) -> frozenset[int]:
        """The parameters that a step wrote, or may have."""
        return self._updated.get(step, frozenset())

    def last_of_each(self, ops: list[int]) -> list[int]:
        """Of passes of one line the last one before a step of each sort, and the last of all, in order."""
        last = {self.updated(step): op for op in ops if (step := self.step_after(op)) >= 0}
        return sorted({*last.values(), ops[-1]})

    def pairs(self) -> Iterator[TwoSteps]:
        """Each two steps of parameters of their own without a pass between, either way round."""
        together: list[list[int]] = []
        for step in self._steps:
            if together and first_after(self._passes, together[-1][-1]) in (NONE, first_after(self._passes, step)):
                together[-1].append(step)
            else:
                together.append([step])
        for some in together:
            before = last_before(self._steps, some[0])
            for step, other in permutations(some, 2):
                mine, others = self.updated(step), self.updated(other)
                if mine and others and mine.isdisjoint(others):
                    yield TwoSteps(step, other, before)

    @cached_property
    def _steps(self) -> list[int]:
        return self._index.of_kind(OpKind.STEP)

    @cached_property
    def _passes(self) -> list[int]:
        return sorted(self._index.roots)

    @cached_property
    def _updated(self) -> dict[int, frozenset[int]]:
        found: dict[int, set[int]] = {}
        for tensor, steps in self._lives.steps.items():
            for step in steps:
                found.setdefault(step, set()).add(tensor)
        return {step: frozenset(tensors) for step, tensors in found.items()}
