"""Until when a backward pass could still come to a node of the graph without raising."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import cached_property

from gradscope.analysis.facts.passes.node_lifetimes import tensor_nodes
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

WALK_LIMIT = 1_000_000
"""Nodes walked in all: a program may keep one graph of any size and write into what it saved any number of times."""
_PLAIN_ATTRIBUTE = "ctx."
"""How a row of ``saved`` is called that a Function's ctx has as an attribute: no pass frees it."""


class UsableNodes:
    """Asks of single nodes whether a tensor is left from which a pass could come to them."""

    def __init__(self, index: Index, passes: Passes, held_until: array[int]) -> None:
        self._index = index
        self._held_until = held_until
        self._passes = passes
        self._known: dict[int, int] = {}
        self._left = WALK_LIMIT

    def until(self, node: int) -> int:
        """The first op from which on no pass could come to a node; the number of ops for none.

        A pass goes through all that leads from its root to what it is asked for. So it raises wherever its root leads
        to the node through another one as well of which an earlier pass had freed what it had saved.
        """
        if node not in self._known:
            self._known[node] = self._until(node)
        return self._known[node]

    def _until(self, node: int) -> int:
        ways = self._before([node], set())
        roots = [one for one in ways if one in self._lives]
        if self._left < 0 or not roots:
            return self._index.op_count  # (too much to walk, or no tensor that leads there was seen)
        blocked_at, passed = dict[int, int](), set[int]()
        for freed, other in sorted((self._freed_at[one], one) for one in ways if one != node):
            if freed == self._index.op_count:
                break
            blocked_at.update(dict.fromkeys(self._before([other], passed), freed))
        return max(min(self._lives[root], blocked_at.get(root, self._index.op_count)) for root in roots)

    def _before(self, nodes: Iterable[int], passed: set[int]) -> list[int]:
        """Some nodes and all that lead to them, without those that were passed before."""
        found, stack = list[int](), list(nodes)
        while stack and self._left >= 0:
            node = stack.pop()
            if node not in passed:
                passed.add(node)
                found.append(node)
                self._left -= 1
                stack += self._leading_to.get(node, ())
        return found

    @cached_property
    def _leading_to(self) -> dict[int, list[int]]:
        """By node those that have it next."""
        edges, found = self._index.recording.edges, dict[int, list[int]]()
        for node, following in zip(edges.column("node"), edges.column("next"), strict=True):
            if following >= 0:
                found.setdefault(following, []).append(node)
        return found

    @cached_property
    def _lives(self) -> dict[int, int]:
        """By node of a tensor when the last such tensor was gone that the program itself may have held.

        What a later node had saved, and what that is a view of, lives as long as that node does: where a tensor was
        gone when such a node was, nothing tells that the program could still get at it.
        """
        saved, storages = self._index.recording.saved, self._index.recording.tensors.column("storage")
        made_at, last_kept = self._index.recording.nodes.column("op"), dict[tuple[int, int], int]()
        for storage, node in zip(saved.column("storage"), saved.column("node"), strict=True):
            if storage >= 0:
                end = storage, min(self._held_until[node], self._freed_at[node])
                last_kept[end] = max(made_at[node], last_kept.get(end, NONE))
        lives: dict[int, int] = {}
        for tensor, died, node in tensor_nodes(self._index):
            if last_kept.get((storages[tensor], died), NONE) <= made_at[node]:
                lives[node] = max(died, lives.get(node, NONE))
        return lives

    @cached_property
    def _freed_at(self) -> array[int]:
        """By node the pass that freed what it had saved; the number of ops for none, or where nothing was saved."""
        saved, used_up_at = self._index.recording.saved, self._passes.used_up_at
        freed = array("i", [self._index.op_count]) * len(used_up_at)
        for node, attr in zip(saved.column("node"), saved.column("attr"), strict=True):
            if used_up_at[node] >= 0 and not self._index.recording.text(attr).startswith(_PLAIN_ATTRIBUTE):
                freed[node] = used_up_at[node]
        return freed
