"""The way from what a backward pass started from down to a tensor, step by step, as far as it was seen."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE


class WayLink(NamedTuple):
    """A call on a way and the tensor that it gave, which is one step nearer to the root."""

    op: int
    gives: int
    loses: bool
    """Autograd tracked what went in and does not track what came out."""


class Way(NamedTuple):
    """A way, the root first."""

    start: int
    """The backward pass (an op) that it begins with; NONE where none was seen."""
    root: int
    """The tensor that it begins with; NONE where there is no way at all."""
    links: tuple[WayLink, ...]
    """From the root to where the tensor was used; with a gap, only those above it."""
    below: tuple[WayLink, ...]
    """With a gap: the calls below it, which the tensor goes into."""
    has_gap: bool
    """No call was seen that leads from what is below to what is above."""
    tensor: int


class Ways:
    """Finds ways."""

    def __init__(self, index: Index, cuts: Cuts, flow: Flow, gradients: Gradients) -> None:
        self._index = index
        self._cuts = cuts
        self._flow = flow
        self._gradients = gradients

    def to(self, tensor: int, before: int, start: int = NONE) -> Way:
        """The way to a tensor from the last backward pass that it has a part in.

        Args:
            tensor: The tensor.
            before: Only calls before this op.
            start: The backward pass to begin with; NONE: the last that the tensor's values went into.
        """
        passes = [start] if start >= 0 else [op for op in sorted(self._gradients.roots, reverse=True) if op < before]
        for op in passes[:_PASSES_TRIED]:
            roots = self._gradients.roots[op]
            steps = self._flow.origins_of_all(roots, op)
            if tensor in steps:
                links = tuple(WayLink(*step) for step in reversed(self._flow.path(steps, tensor)))
                return Way(op, links[0].gives if links else tensor, links, (), False, tensor)
        for op in passes[:1]:
            if self._gradients.roots[op]:
                return self._with_gap(op, tensor)
        return self._down_from(tensor, before)

    def through(self, tensor: int, before: int) -> Way:
        """The way from a tensor down to the leaf that lies behind it: behind a cut, if one can be found.

        Of several leaves it is the one with the longest way.
        """
        steps = self._flow.origins(tensor, before)
        leaves = [one for one in steps if self._index.is_leaf_with_grad(one, before)]
        ways = {leaf: self._flow.path(steps, leaf) for leaf in leaves[-_LEAVES_TRIED:]}
        leaf = max(ways, key=lambda one: (any(step.loses for step in ways[one]), len(ways[one])), default=NONE)
        if leaf == NONE:
            return self._down_from(tensor, before)
        start = next((op for op, roots in sorted(self._gradients.roots.items()) if tensor in roots and op < before), -1)
        return Way(start, tensor, tuple(WayLink(*step) for step in reversed(ways[leaf])), (), False, leaf)

    def _down_from(self, tensor: int, before: int) -> Way:
        """Where there is no pass: what the tensor goes into, the last call first."""
        users = self._flow.uses_of(tensor, before)
        links = [WayLink(op, given[0], bool(self._cuts.is_cut[op])) for op in users if (given := self._given(op))]
        return Way(NONE, NONE, (), tuple(links[-1:]), False, tensor)

    def _with_gap(self, op: int, tensor: int) -> Way:
        """The root of a pass, and by what the tensor's values left, or what used it last."""
        above: tuple[WayLink, ...] = ()
        below: list[WayLink] = []
        left = self._gradients.values_left_before(op)
        reason = self._gradients.unreached.get((self._index.op_statement[op], tensor))
        if left is not None and reason is not None and reason.cut_op >= 0:
            steps = self._flow.origins_of_all(self._gradients.roots[op], op)
            rebuilt = next((one for one in steps if self._index.recording.tensors.column("op")[one] == left[1]), NONE)
            if rebuilt >= 0:
                own = WayLink(left[1], rebuilt, False)
                above = (*(WayLink(*step) for step in reversed(self._flow.path(steps, rebuilt))), own)
            below = self._to_export(reason.cut_op, tensor)
        if not below:
            uses = [one for one in self._flow.uses_of(tensor, op) if self._given(one)]
            below = [WayLink(one, self._given(one)[0], bool(self._cuts.is_cut[one])) for one in uses[-1:]]
        return Way(op, self._gradients.roots[op][0], above, tuple(below), True, tensor)

    def _to_export(self, export: int, tensor: int) -> list[WayLink]:
        """The calls from where values left torch down to a tensor."""
        uses = self._index.uses.of(export)
        if not len(uses):
            return []
        steps = self._flow.origins(uses[0], export)
        links = [WayLink(*step) for step in reversed(self._flow.path(steps, tensor))]
        return [WayLink(export, NONE, True), *links] if tensor in steps else []

    def _given(self, op: int) -> list[int]:
        return [*self._index.tensors_made(op), *self._index.results.of(op)]


_PASSES_TRIED = 16
"""Last passes of a run that are looked at for one that a tensor has a part in."""
_LEAVES_TRIED = 64
"""Leaves behind a tensor whose ways are compared."""
