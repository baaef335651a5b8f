"""Which passes of one line are of the same sort: those that steps of one optimizer follow.

A loop over optimizers calls backward in one line: its last pass is that of the last optimizer alone.
"""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind


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
