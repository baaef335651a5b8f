"""Nodes that get the same gradient tensor as others: an addition hands what it is given on to both of its inputs."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_VIEWS = frozenset(
    f"{name}Backward{number}"
    for name in (
        "View",
        "UnsafeView",
        "ReshapeAlias",
        "Unsqueeze",
        "Squeeze",
        "Transpose",
        "T",
        "Permute",
        "Clone",
        "Alias",
    )
    for number in (0, 1)
)
"""Nodes that give back the gradient that they get, as it lies in memory."""

_ONES = frozenset(("SumBackward0", "SumBackward1", "ExpandBackward0"))
"""Nodes that give back ones where they are given ones."""


class Sharer(NamedTuple):
    """A node that gets a gradient later than another one, and the very same."""

    node: int
    op: int
    """The addition."""


class SharedGradients:
    """Looks upwards from nodes, over the ways by which gradients come to them."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes

    @cached_property
    def _users(self) -> dict[int, list[tuple[int, int]]]:
        """The nodes that lead to each one, with the position of the edge."""
        found: dict[int, list[tuple[int, int]]] = {}
        starts, edges = self._passes.edge_starts, self._index.edges.values
        for node in range(len(self._index.recording.nodes)):
            for position in range(starts[node], starts[node + 1]):
                if edges[position] >= 0:
                    found.setdefault(edges[position], []).append((node, position - starts[node]))
        return found

    def sharer_of(self, node: int) -> Sharer | None:
        """One that is given what a node has written, if it writes its gradient in place.

        Nodes that were made later run earlier. What comes from several ways is summed into memory of its own, and a
        leaf copies what is not its alone.
        """
        made_by, variable = (self._index.recording.nodes.column(name) for name in ("op", "variable"))
        current = node
        while self._passes.first_walked_at[current] >= 0 and len(users := self._users.get(current, [])) == 1:
            ((above, position),) = users
            name = self._name(above)
            if name == "AddBackward0" and self._adds_alike(above):
                for other in self._takers(self._edges(above)[1 - position]):
                    if variable[other] < 0 and made_by[other] < made_by[node] and other != current:
                        return Sharer(other, made_by[above])
            elif name not in _VIEWS and not (name == "SubBackward0" and position == 0 and self._adds_alike(above)):
                return None
            current = above
        return None

    def _takers(self, node: int) -> list[int]:
        """The nodes that a gradient comes to as it lies in memory, from a node that it is given to."""
        found, todo = [], [node] * (node >= 0)
        while todo:
            current = todo.pop()
            name = self._name(current)
            if name in _VIEWS or (name == "AddBackward0" and self._adds_alike(current)):
                todo += (one for one in self._edges(current) if one >= 0)
            else:
                found.append(current)
        return found

    def is_given_ones(self, node: int) -> bool:
        """Whether all that leads to a node from the loss is sums: the gradient that it is given is 1."""
        todo, seen = [node], {node}
        while todo:
            current = todo.pop()
            users = self._users.get(current, ())
            if len(users) > 1:
                return False
            for above, _ in users:
                if self._name(above) not in _ONES | _VIEWS | {"AddBackward0"}:
                    return False
                if above not in seen:
                    seen.add(above)
                    todo.append(above)
        return True

    def _name(self, node: int) -> str:
        return self._index.recording.text(self._index.recording.nodes.column("name")[node])

    def _edges(self, node: int) -> list[int]:
        return list(self._index.edges.of(node))

    def _adds_alike(self, node: int) -> bool:
        """Whether an addition took two tensors of one shape, each once."""
        index, op = self._index, self._index.recording.nodes.column("op")[node]
        taken = list(index.uses.of(op))
        if len(taken) != 2 or len(self._edges(node)) != 2 or "alpha" in index.span_source(op):
            return False
        return len({index.recording.layouts[index.layout_at(one, op)].shape for one in taken}) == 1
