"""Which nodes each backward pass walked, and which it used up."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cached_property

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED

RETAINED_WALK_LIMIT = 2_000_000
"""Nodes walked again for passes that keep their graph: a program may ask for the same graph any number of times."""


class _Walks:
    """For each node, backward passes (ops) that came through; NONE for none."""

    def __init__(self, nodes: int) -> None:
        self.used_up = array("i", [NONE]) * nodes
        self.first = array("i", [NONE]) * nodes
        self.last = array("i", [NONE]) * nodes


class Passes:
    """The backward passes of a recording, walked over its graph. No recursion: graphs may be a million nodes deep."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def edge_starts(self) -> array[int]:
        """Where each node's edges start in ``index.edges``."""
        return self._index.edges.starts(len(self._index.recording.nodes))

    @cached_property
    def used_up_at(self) -> array[int]:
        """For each node, the backward pass (an op) that used it up and freed what it had saved; NONE for none."""
        return self._walks.used_up

    @cached_property
    def first_walked_at(self) -> array[int]:
        """For each node, the first backward pass (an op) that came through; NONE for none."""
        return self._walks.first

    @cached_property
    def last_walked_at(self) -> array[int]:
        """For each node, the last backward pass (an op) that came through, or that raised and had it before it."""
        return self._walks.last

    @cached_property
    def _walks(self) -> _Walks:
        walks = _Walks(len(self._index.recording.nodes))
        allowance = RETAINED_WALK_LIMIT
        for op, node, keeps in sorted(self._starts()):
            if keeps:
                allowance -= self._walk_retained(node, op, walks, allowance)
            else:
                self._walk_freeing(node, op, walks)
        return walks

    def _starts(self) -> Iterator[tuple[int, int, bool]]:
        """Every pass: its op, its root's node, and whether it left the graph as it was (a pass that raised did)."""
        flags = self._index.recording.ops.column("flags")
        for row in self._index.recording.backwards:
            if row.node >= 0:
                yield row.op, row.node, row.retain_graph == 1 or bool(flags[row.op] & RAISED)

    def behind(self, root: int) -> list[int]:
        """A node and all that are behind it, the node first; nothing for NONE."""
        starts, following = self.edge_starts, self._index.edges.values
        found, stack, seen = [], [root] * (root >= 0), {root}
        while stack:
            node = stack.pop()
            found.append(node)
            for position in range(starts[node], starts[node + 1]):
                after = following[position]
                if after >= 0 and after not in seen:
                    seen.add(after)
                    stack.append(after)
        return found

    def _walk_freeing(self, root: int, op: int, walks: _Walks) -> None:
        starts, following = self.edge_starts, self._index.edges.values
        used_up, first, last = walks.used_up, walks.first, walks.last
        stack = [root]
        while stack:
            node = stack.pop()
            if used_up[node] >= 0:
                continue
            used_up[node] = last[node] = op
            if first[node] < 0:
                first[node] = op
            for position in range(starts[node], starts[node + 1]):
                if following[position] >= 0:
                    stack.append(following[position])

    def _walk_retained(self, root: int, op: int, walks: _Walks, allowance: int) -> int:
        """Returns how many nodes it walked."""
        starts, following = self.edge_starts, self._index.edges.values
        used_up, first, last = walks.used_up, walks.first, walks.last
        stack, seen = [root], {root}
        while stack and len(seen) < allowance:
            node = stack.pop()
            last[node] = op
            if first[node] < 0:
                first[node] = op
            for position in range(starts[node], starts[node + 1]):
                after = following[position]
                if after >= 0 and after not in seen and used_up[after] < 0:
                    seen.add(after)
                    stack.append(after)
        return len(seen)
