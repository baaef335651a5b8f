"""Targets that are computed of nothing but the estimate that they are compared with, and have a gradient.

The sharpened assignments of a clustering, pseudo labels of the model's own probabilities: they say where the estimate
is to go, and follow it where they are no constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import called, maker, tracked_uses
from gradscope.analysis.facts.losses.trained_teachers import SECOND_IS_TARGET
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_CALLS = 24
"""Calls that are followed from either side."""


class TargetOfEstimate(NamedTuple):
    """One such loss, in the last pass that came through it."""

    loss: int
    target: int
    made: int
    """The op that made the target."""
    estimate: int
    """The tensor of which both sides are computed."""


def targets_of_estimates(index: Index, passes: Passes) -> Iterator[TargetOfEstimate]:
    """The last of each line with such a loss."""
    nodes, found = index.recording.tensors.column("node"), dict[int, TargetOfEstimate]()
    for op in index.calls_of(lambda name: name.startswith("F.") and name[2:] in SECOND_IS_TARGET):
        made, taken = index.tensors_made(op), list(index.uses.of(op))[:2]
        if len(taken) < 2 or tracked_uses(index, op)[:2] != taken or not made or nodes[made[0]] < 0:
            continue
        estimate, target = taken
        if passes.first_walked_at[nodes[made[0]]] < 0 or maker(index, target) < 0 or estimate == target:
            continue
        common = _common(index, target, _behind(index, estimate))
        if common is not None and common not in (target, *index.uses.of(maker(index, target))):
            # (of the estimate's own probabilities a cross entropy is their entropy)
            found[index.op_statement[op]] = TargetOfEstimate(op, target, maker(index, target), common)
    yield from found.values()


def _behind(index: Index, tensor: int) -> set[int]:
    """What a tensor is computed of by single calls that took one tracked tensor each, and itself."""
    found = {tensor}
    for _ in range(_CALLS):
        op = maker(index, tensor)
        taken = list(dict.fromkeys(tracked_uses(index, op))) if op >= 0 else []
        if len(taken) != 1 or index.is_leaf(taken[0]):
            return found
        (tensor,) = taken
        found.add(tensor)
    return found


def _common(index: Index, target: int, behind: set[int]) -> int | None:
    """The one tensor behind an estimate of which a target is computed, where that is all that it has a gradient to."""
    todo, seen, common = [target], {target}, set[int]()
    while todo and len(seen) < _CALLS:
        tensor = todo.pop()
        op = maker(index, tensor)
        if tensor in behind:
            common.add(tensor)
        elif op < 0 or called(index, op) in ("linear", "bilinear", "embedding") or index.is_leaf(tensor):
            return None
        else:
            new = set(tracked_uses(index, op)) - seen
            seen |= new
            todo += new
    return common.pop() if len(common) == 1 and not todo else None
