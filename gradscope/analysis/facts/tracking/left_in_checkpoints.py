"""Values that a reentrant checkpoint's function left beside what it returned, and that lost their gradients by that.

``self.balance = probs.mean(0).pow(2).sum()`` in a checkpointed layer: the function runs without a graph in the forward
pass. What it returns gets one when it is over; what it kept elsewhere has none, and no error says so.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index

_MEANT = ("Tensor.detach", "Tensor.detach_", "Tensor.data.__get__")


class LeftInCheckpoint(NamedTuple):
    """What one value came from."""

    call: Happened
    """The last checkpoint that left something of it behind."""
    left: int
    """The tensor."""
    leaves: list[int]
    """Those that it was computed from."""


def left_in_checkpoint(index: Index, flow: Flow, cuts: Cuts, tensor: int, at: int) -> LeftInCheckpoint | None:
    """The checkpoint that every way from leaves to a value leads out of without a graph; None where one does not.

    Where somebody cut it off as well, in there or behind, no gradient was meant to flow.

    Args:
        index: The recording.
        flow: Of its values.
        cuts: Of its graphs.
        tensor: The value.
        at: The op that took it.
    """
    steps = flow.origins(tensor, at)
    leaves = [one for one in steps if index.is_leaf_with_grad(one, at)]
    found = []
    for leaf in leaves:
        way = flow.path(steps, leaf)
        out = way_out(cuts, way, at)
        if out is None or any(_is_meant(index, cuts, step, out[0]) for step in way):
            return None
        found.append(out)
    if not found:
        return None
    call, left = max(found, key=lambda out: out[0].op)
    return LeftInCheckpoint(call, left, leaves)


def way_out(cuts: Cuts, way: list[Step], at: int) -> tuple[Happened, int] | None:
    """Where a way leads out of a checkpoint without a graph: the call, and what it left."""
    for place in range(len(way) - 1, -1, -1):
        taken_at = way[place + 1].op if place + 1 < len(way) else at
        call = cuts.reentrant.left_by(way[place].gives, taken_at)
        if call is not None:
            return call, way[place].gives
    return None


def _is_meant(index: Index, cuts: Cuts, step: Step, call: Happened) -> bool:
    """Whether a step cut its value off by what is there for nothing else, in a checkpoint's function or behind it."""
    return step.loses or (
        step.op >= call.op and (index.method(step.op) in _MEANT or cuts.regions.of(step.op) >= call.op)
    )
