"""In which order a backward pass came to parameters: through which of them the gradient of others went."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index


class PassOrder:
    """The graph of one pass."""

    def __init__(self, index: Index, passes: Passes, op: int) -> None:
        self._index = index
        self._passes = passes
        self._op = op

    @cached_property
    def _graph(self) -> dict[int, list[int]]:
        """The nodes behind the pass's roots, each with those that come next."""
        found: dict[int, list[int]] = {}
        for node in (one for root in self._index.root_nodes(self._op) for one in self._passes.behind(root)):
            found[node] = [after for after in self._index.edges.of(node) if after >= 0]
        return found

    @cached_property
    def _before(self) -> dict[int, list[int]]:
        before: dict[int, list[int]] = {}
        for node, following in self._graph.items():
            for after in following:
                before.setdefault(after, []).append(node)
        return before

    def came_through(self, parameters: Collection[int], *, to: Collection[int]) -> bool:
        """Whether an operation on one of some parameters handed the gradient on towards one of others."""
        goals = set(self._ends(to))
        return any(not goals.isdisjoint(self._passes.behind(node)) for node in self.users(parameters))

    def _ends(self, parameters: Collection[int]) -> list[int]:
        variable = self._index.recording.nodes.column("variable")
        return [node for node in self._graph if variable[node] in parameters]

    def users(self, parameters: Collection[int]) -> set[int]:
        """The nodes of operations on parameters: what only hands on one tensor (a transposition) is passed over."""
        found: set[int] = set()
        stack = self._ends(parameters)
        while stack:
            for node in self._before.get(stack.pop(), ()):
                if len(self._graph[node]) > 1:
                    found.add(node)
                else:
                    stack.append(node)
        return found
