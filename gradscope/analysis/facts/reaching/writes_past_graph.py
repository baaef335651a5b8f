"""Values that were written into parameters past the graph that computed them."""

from __future__ import annotations

from collections.abc import Collection, Container
from functools import cached_property
from itertools import islice

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.reaching.left_values import FOLLOWED
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_LOAD = "nn.Module.load_state_dict"
_LOADS_TRIED = 16
"""Last loads of results with a graph whose graphs are walked."""


class WritesPastGraph:
    """Finds for a leaf what was computed from it and written into what a root was made from."""

    def __init__(self, index: Index, flow: Flow, events: Events, passes: Passes) -> None:
        self._index = index
        self._flow = flow
        self._events = events
        self._passes = passes
        self._leaves_by_node: dict[int, frozenset[int]] = {}

    def into_data(self, tensor: int, steps: Container[int], until: int) -> int:
        """The call that wrote a tracked result of a leaf into the data of what the root was made from; NONE for none.

        ``p.data = p.data - rate * g``, ``p.data.sub_(rate * g)``. Of leaves that an optimizer was given: a result that
        is tracked up to there was meant to be trained through.
        """
        if tensor not in self._events.in_optimizers:
            return NONE
        stack, seen = [tensor], {tensor}
        while stack and len(seen) < FOLLOWED:
            one = stack.pop()
            for op in self._flow.uses_of(one, until):
                if one != tensor and self._data_written_from(op, one) in steps:
                    return op
                new = [made for made in self._index.tensors_made(op) if made not in seen]
                new = [made for made in new if self._index.requires_grad(made, op + 1)]
                seen.update(new)
                stack += new
        return NONE

    def _data_written_from(self, op: int, value: int) -> int:
        """The tensor whose data an op writes a value into; NONE for another op."""
        index = self._index
        taken, func = index.uses.of(op), index.func(op)
        if len(taken) < 2 or taken[0] == value:
            return NONE
        if func == "Tensor.data.__set__":
            return taken[0]
        made_by = index.made_by(taken[0])
        is_data = 0 <= made_by < index.op_count and index.func(made_by) == "Tensor.data.__get__"
        return index.uses.of(made_by)[0] if is_data and func.endswith("_") else NONE

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
