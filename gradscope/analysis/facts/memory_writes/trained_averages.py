"""Averages of trained weights that an optimizer trains as well: a mean teacher that gets gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.memory_writes.mixed_by_hand import mixed_by_hand
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

RUNS = 3
"""Runs of the averaging, with a step of both before each, from which on it is reported."""
_BY_LIBRARY = "optim.AveragedModel.update_parameters"
_LERP, _LERPS = "Tensor.lerp_", "torch._foreach_lerp_"


class TrainedAverage(NamedTuple):
    """One parameter that is an average of another."""

    average: int
    weight: int
    ops: tuple[int, ...]
    """What mixed the weight into it, with a step of both before each."""


def trained_averages(index: Index, lives: GradientLives, events: Events) -> list[TrainedAverage]:
    """Those that steps write between the runs of the averaging, and of which nothing goes back into the weights.

    Of averages by hand, which models that learn from each other take as well, one optimizer has to hold both.
    """
    if len(lives.steps) < 2:
        return []
    calls = index.calls_of(lambda name: name in (_BY_LIBRARY, _LERP, _LERPS))
    leaves = {index.storage_at(leaf, steps[-1]): leaf for leaf, steps in lives.steps.items()}
    written = _written_leaves(index, set(calls), leaves)
    mixes: dict[tuple[int, int], list[int]] = {}
    for op in calls:
        for pair in _pairs(index, op, leaves, written.get(op, set())):
            mixes.setdefault(pair, []).append(op)
    given = {leaf: {event.row for event in events.in_optimizers.get(leaf, ())} for leaf in lives.steps}
    for op, average, weight in mixed_by_hand(index, lives.steps.keys()):
        if not given[average].isdisjoint(given[weight]):
            mixes.setdefault((average, weight), []).append(op)
    found = []
    for (average, weight), ops in mixes.items():
        both = lives.steps[average], lives.steps[weight]
        after = [op for before, op in pairwise(ops) if all(ops_between(steps, before, op) for steps in both)]
        if len(after) >= RUNS and (weight, average) not in mixes:
            found.append(TrainedAverage(average, weight, tuple(after)))
    return found


def _written_leaves(index: Index, calls: set[int], leaves: dict[int, int]) -> dict[int, set[int]]:
    """The trained leaves on whose memory each call wrote; a view's version at its birth is no write."""
    made_at, found = index.recording.tensors.column("op"), dict[int, set[int]]()
    for op, tensor, before, _ in all_writes(index):
        leaf = leaves.get(index.storage_at(tensor, op), NONE) if op in calls else NONE
        if leaf >= 0 and (before or made_at[tensor] != op):
            found.setdefault(op, set()).add(leaf)
    return found


def _pairs(index: Index, op: int, leaves: dict[int, int], written: set[int]) -> Iterator[tuple[int, int]]:
    """An average and the weight that a call mixes into it, both trained."""
    taken = [leaves.get(index.storage_at(one, op), NONE) for one in index.uses.of(op)]
    if index.func(op) == _LERP:
        averages, weights = taken[:1], taken[1:2]
    elif index.func(op) == _LERPS:
        averages, weights = taken[: len(taken) // 2], taken[len(taken) // 2 :]
    else:
        trained = [one for one in dict.fromkeys(taken) if one >= 0]
        averages, weights = [one for one in trained if one in written], [one for one in trained if one not in written]
    if len(averages) == len(weights):
        for average, weight in zip(averages, weights, strict=True):
            if average >= 0 and weight >= 0 and average != weight:
                yield average, weight
