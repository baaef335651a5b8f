"""Which nodes each backward pass walked, and which it used up."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import cached_property

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

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
            needed = self._needed(op, node, walks) if op in self._asked_for else None
            if keeps:
                allowance -= self._walk_retained(node, op, walks, allowance, needed)
            else:
                self._walk_freeing(node, op, walks, needed)
        return walks

    @cached_property
    def _asked_for(self) -> dict[int, set[int]]:
        """By pass that was asked for the gradients of some tensors only (``inputs=``) the nodes that take these."""
        index = self._index
        columns = (index.recording.nodes.column("variable"), index.recording.tensors.column("node"))
        takes: dict[int, list[int]] = {}
        for node, variable in enumerate(columns[0]):
            if variable >= 0:
                takes.setdefault(variable, []).append(node)
        kinds, found = index.recording.ops.column("kind"), dict[int, set[int]]()
        for op, roots in index.roots.items():
            for tensor in set(index.uses.of(op)).difference(roots):
                if index.is_leaf_with_grad(tensor, op):
                    found.setdefault(op, set()).update(takes.get(tensor, ()))
                elif kinds[op] == OpKind.GRAD and columns[1][tensor] >= 0:
                    found.setdefault(op, set()).add(columns[1][tensor])
        return found

    def _needed(self, op: int, root: int, walks: _Walks) -> set[int] | None:
        """The nodes from a root to what a pass was asked for; None for all, where it took something else in."""
        starts, following, asked = self.edge_starts, self._index.edges.values, self._asked_for[op]
        needed, seen, stack = set[int](), set[int](), [root]
        while stack:
            node = stack.pop()
            if node < 0:  # all that is behind it is known
                behind = following[starts[~node] : starts[~node + 1]]
                if any(one in asked or one in needed for one in behind):
                    needed.add(~node)
            elif node not in seen and walks.used_up[node] < 0:
                seen.add(node)
                stack.append(~node)
                stack += [one for one in following[starts[node] : starts[node + 1]] if one >= 0]
        is_grad = self._index.recording.ops.column("kind")[op] == OpKind.GRAD
        return needed if needed or is_grad or "inputs" in self._index.span_source(op) else None

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

    def leaves_behind(self, *roots: int) -> set[int]:
        """The leaves to which the graph leads from some nodes; NONE leads nowhere."""
        variable = self._index.recording.nodes.column("variable")
        return {variable[node] for root in roots for node in self.behind(root)} - {NONE}

    def _walk_freeing(self, root: int, op: int, walks: _Walks, needed: set[int] | None) -> None:
        starts, following = self.edge_starts, self._index.edges.values
        used_up, first, last = walks.used_up, walks.first, walks.last
        stack = [root]
        while stack:
            node = stack.pop()
            if used_up[node] >= 0 or (needed is not None and node not in needed):
                continue
            used_up[node] = last[node] = op
            if first[node] < 0:
                first[node] = op
            for position in range(starts[node], starts[node + 1]):
                if following[position] >= 0:
                    stack.append(following[position])

    def _walk_retained(self, root: int, op: int, walks: _Walks, allowance: int, needed: set[int] | None) -> int:
        """Returns how many nodes it walked."""
        starts, following = self.edge_starts, self._index.edges.values
        used_up, first, last = walks.used_up, walks.first, walks.last
        stack, seen = [root], {root}
        while stack and len(seen) < allowance:
            node = stack.pop()
            if needed is not None and node not in needed:
                continue
            last[node] = op
            if first[node] < 0:
                first[node] = op
            for position in range(starts[node], starts[node + 1]):
                after = following[position]
                if after >= 0 and after not in seen and used_up[after] < 0:
                    seen.add(after)
                    stack.append(after)
        return len(seen)
