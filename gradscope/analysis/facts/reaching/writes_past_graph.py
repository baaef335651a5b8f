"""States with a graph that are loaded into parameters, which have none."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from itertools import islice

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_LOAD = "nn.Module.load_state_dict"
_LOADS_TRIED = 16
"""Last loads of results with a graph whose graphs are walked."""


class WritesPastGraph:
    """Finds for a leaf what was computed from it and loaded into what a root was made from."""

    def __init__(self, index: Index, events: Events, passes: Passes) -> None:
        self._index = index
        self._events = events
        self._passes = passes
        self._leaves_by_node: dict[int, frozenset[int]] = {}

    def by_load(self, leaf: int, steps: Collection[int], until: int) -> int:
        """The last load of a state that was computed from a leaf of an optimizer into what the root was made from.

        NONE for none, or where the leaf is itself loaded so: an average of it and another is no way for a gradient.
        """
        index, node = self._index, self._index.recording.tensors.column("node")
        for op in self._loads if leaf in self._events.in_optimizers else ():
            written = set(index.results.of(op))
            if op > until or leaf in written or written.isdisjoint(steps):
                continue
            values = (node[one] for one in index.uses.of(op) if one not in written)
            if any(leaf in self._leaves_of_node(one) for one in values if one >= 0):
                return op
        return NONE

    @cached_property
    def _loads(self) -> list[int]:
        """The last calls of ``load_state_dict`` that were given results with a graph, the last first."""
        index, node = self._index, self._index.recording.tensors.column("node")
        loads = reversed(index.calls_of(_LOAD.__eq__))
        return list(islice((op for op in loads if any(node[one] >= 0 for one in index.uses.of(op))), _LOADS_TRIED))

    def _leaves_of_node(self, node: int) -> frozenset[int]:
        known = self._leaves_by_node.get(node)
        if known is None:
            known = frozenset(self._passes.leaves_behind(node))
            self._leaves_by_node[node] = known
        return known
