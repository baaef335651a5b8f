"""Batch norms that learn statistics a second time from one batch, at weights that were moved for a moment only.

Sharpness-aware training (SAM), adversarial weights: a pass, weights moved by hand, another forward and pass of the same
batch, the weights put back, a step. The statistics of the second forward are of weights that the model never has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.batches import batch_behind
from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import all_steps, writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

ROUNDS = 3
"""Rounds of it, from which on it is reported."""


class LearnedAtMovedWeights(NamedTuple):
    """One batch norm, in the last of its rounds."""

    weight: int
    moved: int
    """The op that moved weights last, before the second forward."""
    normalized: int
    """The call of the norm in it."""
    passed: int
    """The second pass."""
    rounds: int


def learned_at_moved_weights(index: Index, lives: GradientLives) -> Iterator[LearnedAtMovedWeights]:
    """One for each batch norm."""
    runs: dict[int, list[int]] = {}
    for op, weight in runs_in_training(index, LEARNED):
        runs.setdefault(weight, []).append(op)
    if not runs:
        return
    rounds = _Rounds(index, lives)
    for weight, ops in runs.items():
        behind = [*ops[2:], index.op_count]
        triples = zip(ops, ops[1:], behind, strict=False)
        found = [one for first, second, after in triples if (one := rounds.between(first, second, after))]
        if len(found) >= ROUNDS:
            moved, second, passed = found[-1]
            yield LearnedAtMovedWeights(weight, moved, second, passed, index.times(one[1] for one in found))


class _Rounds:
    """Tells whether two runs of a norm are those of one round."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._steps, self._passes = all_steps(index), index.of_kind(OpKind.BACKWARD)
        self._steps_of = lives.steps
        steps = set(self._steps)
        storages = index.recording.tensors.column("storage")
        own = {storages[leaf]: leaf for leaf in lives.passes}
        own |= {storage: leaf for leaf in lives.passes for _, storage in index.moves.get(leaf, ())}
        written = ((op, index.storage_at(tensor, op)) for op, tensor, *_ in writes_by_program(index))
        moves = {(op, own[on]) for op, on in written if on in own and op not in steps}
        moves |= {(op, leaf) for leaf in lives.passes for op, _ in index.moves.get(leaf, ())}  # (p.data = kept)
        self._moves = sorted(moves)
        self._moved_at = [op for op, _ in self._moves]

    def between(self, first: int, second: int, after: int) -> tuple[int, int, int] | None:
        """The last op that moved weights, the second run and its pass, where the weights were put back behind that, for
        a step before the run after.
        """
        before = self._next(self._passes, first)
        passed = self._next(self._passes, second)
        if before is None or passed is None or not first < before < second:
            return None
        step = self._next(self._steps, first)
        if step is None or not passed < step < after:
            return None
        moved, back = self._within(before, second), self._within(passed, step)
        leaves = {leaf for _, leaf in moved}
        if not any(step in self._steps_of.get(leaf, ()) for leaf in leaves):
            return None  # (the step is another model's: this one is trained by hand)
        if (
            not leaves
            or not leaves <= {leaf for _, leaf in back}
            or batch_behind(self._index, first) != batch_behind(self._index, second)
        ):
            return None
        return moved[-1][0], second, passed

    def _next(self, ops: list[int], after: int) -> int | None:
        at = bisect_right(ops, after)
        return ops[at] if at < len(ops) else None

    def _within(self, first: int, last: int) -> list[tuple[int, int]]:
        return self._moves[bisect_left(self._moved_at, first) : bisect_left(self._moved_at, last)]
