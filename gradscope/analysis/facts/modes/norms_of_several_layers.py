"""Batch norms that stand behind several layers in a row: their running statistics are those of all of them mixed.

In training each call normalises by its own batch. In evaluation all of them go by the one mean and variance.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

ROUNDS = 3
"""Passes with both runs before them, from which on it is reported."""
_BETWEEN = 24
"""Calls from one run to the next that are looked at, and those back to a layer."""


class NormOfSeveral(NamedTuple):
    """One batch norm."""

    weight: int
    first: int
    """The last run behind one layer."""
    second: int
    """The run behind another that what the first gave went into."""
    layers: tuple[int, int]
    """A weight of each of the layers."""
    evaluated: int
    """A run in evaluation mode since."""
    rounds: int


def norms_of_several_layers(index: Index) -> Iterator[NormOfSeveral]:
    """One for each batch norm that learned so, and was then used in evaluation mode."""
    runs: dict[int, list[int]] = {}
    for op, weight in runs_in_training(index, LEARNED):
        runs.setdefault(weight, []).append(op)
    passes = index.of_kind(OpKind.BACKWARD)
    for weight, ops in runs.items():
        learned = set(ops)
        later = [op for op in index.users.of(weight) if op > ops[0] and op not in learned]
        evaluated = [op for op in later if index.func(op) == "F.batch_norm"]
        if not evaluated:
            continue
        found = [
            (first, second, layers)
            for first, second in pairwise(ops)
            if bisect_right(passes, first) == bisect_right(passes, second)
            and (layers := _layers(index, first, second)) is not None
        ]
        if len({bisect_right(passes, second) for _, second, _ in found}) >= ROUNDS:
            first, second, layers = found[-1]
            after = [op for op in evaluated if op > second] or evaluated
            rounds = index.times(second for _, second, _ in found)
            yield NormOfSeveral(weight, first, second, layers, after[0], rounds)


def _layers(index: Index, first: int, second: int) -> tuple[int, int] | None:
    """A weight of each of the two layers that two runs stand behind; None where these are one, or no such two.

    The second has to be computed of what the first gave: two branches side by side may be meant to be alike.
    """
    one, other = _layer_behind(index, first), _layer_behind(index, second)
    if one is None or other is None or one == other or not _leads(index, first, second):
        return None
    return one, other


def _layer_behind(index: Index, op: int) -> int | None:
    """A weight of the layer that computed what a norm is given, by way of calls without one."""
    tensors = index.recording.tensors
    made_at, flags = tensors.column("op"), tensors.column("flags")
    tensor = index.uses.of(op)[0]
    for _ in range(_BETWEEN):
        made = made_at[tensor]
        if made >= index.op_count or made >= op or not len(index.uses.of(made)):
            return None
        taken = index.uses.of(made)
        weights = [one for one in taken if flags[one] & PARAMETER]
        if weights:
            return weights[0]
        tensor, op = taken[0], made
    return None


def _leads(index: Index, first: int, second: int) -> bool:
    """Whether what a run gave went into another one, by calls between the two."""
    reached, todo, looked = set(index.tensors_made(first)), [first], 0
    while todo and looked < _BETWEEN * 4:
        for made in index.tensors_made(todo.pop(0)):
            for user in index.users.of(made):
                looked += 1
                if user == second:
                    return True
                if first < user < second:
                    new = [one for one in index.tensors_made(user) if one not in reached]
                    reached.update(new)
                    todo += [user] * bool(new)
    return False
