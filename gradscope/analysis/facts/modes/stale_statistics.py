"""Averages of weights that are evaluated with the running statistics that their batch norms had at the beginning.

An average that goes over ``parameters()`` leaves the buffers out. The norms of the trained model learn statistics all
the while, those of the average never do: it runs in evaluation mode only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index
from gradscope.recording.rows import Field

AVERAGES = 3
"""Times that the weights were written, and that the other norm learned, from which on it is reported."""
_TAKES = 5
"""Tensors that a batch norm with statistics and weights takes: the input, mean, variance, weight, bias."""


class StaleStatistics(NamedTuple):
    """One batch norm of an average."""

    weight: int
    mean: int
    averaged: int
    """The op that wrote the weight last, before it was evaluated."""
    evaluated: int
    """The last call of the norm."""


def stale_statistics(index: Index, lives: GradientLives) -> Iterator[StaleStatistics]:
    """One for each batch norm that ran in evaluation mode only."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "field"))
    in_training = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}
    learned = runs_in_training(index, LEARNED)
    last: dict[int, int] = {}
    for op in index.calls_of(lambda name: name == "F.batch_norm"):
        if op not in in_training and len(index.uses.of(op)) == _TAKES:
            last[index.uses.of(op)[3]] = op
    taught = {weight for _, weight in learned}
    candidates = {weight: op for weight, op in last.items() if weight not in taught and weight not in lives.passes}
    if not candidates or not learned:
        return
    written = _written(index, candidates)
    layouts = index.recording.tensors.column("layout")
    for weight, op in candidates.items():
        mean = index.uses.of(op)[1]
        averages = [one for one in written.get(weight, ()) if one < op]
        if len(averages) < AVERAGES or any(is_step(index, one) for one in averages):
            continue
        others = [at for at, other in learned if layouts[other] == layouts[weight] and averages[0] < at < op]
        since = bisect_right(written.get(mean, []), averages[0] - 1)
        if len(others) >= AVERAGES and written.get(mean, [])[since:] == []:
            yield StaleStatistics(weight, mean, averages[-1], op)


def _written(index: Index, candidates: dict[int, int]) -> dict[int, list[int]]:
    """The ops that wrote each weight and each mean of some norms, in order; also what was put on other memory."""
    wanted = {one for op in candidates.values() for one in (index.uses.of(op)[1], index.uses.of(op)[3])}
    storages = index.recording.tensors.column("storage")
    own = {storages[one]: one for one in wanted if storages[one] >= 0}
    own |= {storage: one for one in wanted for _, storage in index.moves.get(one, ())}
    found: dict[int, set[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and (one := own.get(index.storage_at(tensor, op))) is not None:
            found.setdefault(one, set()).add(op)
    for one in wanted:
        found.setdefault(one, set()).update(op for op, _ in index.moves.get(one, ()))
    return {one: sorted(ops) for one, ops in found.items()}
