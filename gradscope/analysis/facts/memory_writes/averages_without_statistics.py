"""Copies whose weights follow those of a trained model, and whose batch norms keep the running statistics of the start.

``parameters()`` gives no buffers: a copy that is averaged or overwritten by it has new weights and old statistics. It
shows where the copy normalises with these, in evaluation mode, while the norms of the trained model learned others.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.followed_weights import FollowedWeights
from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

RUNS = 3
"""Writes of a copy's weight, with a step of the trained one between each two, from which on it follows that."""
_MEAN, _WEIGHT, _TAKEN = 1, 3, 5
"""What a batch norm takes: the input, both statistics, weight and bias."""


class StaleStatistics(NamedTuple):
    """One batch norm of a copy."""

    weight: int
    source: int
    """The trained weight that it follows."""
    ops: tuple[int, ...]
    """The writes of the copy's weight, with a step before each but the first."""
    used: tuple[int, ...]
    """Calls in evaluation mode after at least so many of them as :data:`RUNS`."""


def stale_statistics(index: Index, lives: GradientLives) -> list[StaleStatistics]:
    """Those of one recording."""
    learned = {index.storage_at(weight, op): op for op, weight in runs_in_training(index, LEARNED)}
    if not learned or not lives.steps:
        return []
    finder = _StaleFinder(index, lives)
    return [found for weight, uses in finder.evaluated.items() if (found := finder.stale(weight, uses, learned))]


class _StaleFinder:
    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    @cached_property
    def _following(self) -> FollowedWeights:
        return FollowedWeights(self._index, self._lives, self.evaluated)

    @cached_property
    def evaluated(self) -> dict[int, list[tuple[int, int]]]:
        """For the weight of each batch norm that is not trained: its calls in evaluation mode, with the mean taken."""
        index, changes = self._index, self._index.recording.changes
        columns = (changes.column(name) for name in ("op", "field"))
        in_training = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}
        found: dict[int, list[tuple[int, int]]] = {}
        for op in index.calls_of(lambda name: name == "F.batch_norm"):
            taken = index.uses.of(op)
            if op not in in_training and len(taken) == _TAKEN and taken[_WEIGHT] not in self._lives.steps:
                found.setdefault(taken[_WEIGHT], []).append((op, taken[_MEAN]))
        return found

    def stale(self, weight: int, uses: list[tuple[int, int]], learned: dict[int, int]) -> StaleStatistics | None:
        """A weight that follows a trained one, where its norm's statistics stay as they were."""
        index = self._index
        last, mean = uses[-1]
        storage = index.storage_at(mean, last)
        ops, source = self._following.followed(weight)
        if len(ops) < RUNS or storage < 0 or index.recording.storages[storage].op >= ops[0]:
            return None
        used = tuple(op for op, one in uses if op > ops[RUNS - 1] and index.storage_at(one, op) == storage)
        since_then = learned.get(index.storage_at(source, ops[-1]), NONE)
        if not used or since_then < ops[0] or self._written_last.get(storage, NONE) >= ops[0]:
            return None
        return StaleStatistics(weight, source, ops, used)

    @cached_property
    def _written_last(self) -> dict[int, int]:
        return last_written(self._index)
