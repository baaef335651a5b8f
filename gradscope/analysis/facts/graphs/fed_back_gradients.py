"""Recursions that feed a gradient back with the graph that ``create_graph=True`` gave it: ``v = v - hvp(v)``.

Each round of a Neumann series, a power iteration or a sampler then keeps the graphs of all rounds before it. That is
meant where a loss at the end is differentiated through the rounds, and needed where each round is the derivative of the
one before; neither is found.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

AT_LEAST = 4
"""Rounds from which on a graph is one that grows with them."""


class FedBack(NamedTuple):
    """One recursion."""

    grad: int
    """The last ``autograd.grad(create_graph=True)`` that was given what the rounds before it had made."""
    updates: tuple[int, ...]
    """The calls of the last round that make of its result what the next round takes."""
    tensor: int
    """What the last of these made."""
    nodes: tuple[int, ...]
    """The graph behind what the pass started from."""
    rounds: int
    """Earlier such passes whose results' graphs are part of it."""
    is_product: bool
    """Whether the pass is of a product with a gradient that the round computed anew (a Hessian-vector product)."""


def fed_back(index: Index, passes: Passes) -> Iterator[FedBack]:
    """One for each call of ``autograd.grad`` that is part of such a recursion."""
    kinds, spans = (index.recording.ops.column(name) for name in ("kind", "span"))
    roots: dict[int, list[int]] = {}
    for row in index.recording.backwards:
        if row.create_graph == 1 and row.node >= 0 and kinds[row.op] == OpKind.GRAD:
            roots.setdefault(row.op, []).append(row.node)
    by_span: dict[int, list[int]] = {}
    for op in roots:
        by_span.setdefault(spans[op], []).append(op)
    for span, ops in by_span.items():
        if span >= 0 and len(ops) > AT_LEAST:
            found = _Recursion(index, passes, roots, ops).find()
            if found is not None:
                yield found


class _Recursion:
    """Passes of one call, the last of which may have been given what came of the ones before it."""

    def __init__(self, index: Index, passes: Passes, roots: dict[int, list[int]], ops: list[int]) -> None:
        self._index = index
        self._passes = passes
        self._roots = roots
        self._ops = ops
        self._made_by = index.recording.nodes.column("op")
        columns = (index.recording.tensors.column(name) for name in ("op", "node", "flags"))
        self._made_at, self._node, self._flags = columns

    def find(self) -> FedBack | None:
        before, last = self._ops[-2:]
        behind = set(self._behind(last))
        ops_behind = {self._made_by[node] for node in behind}
        rounds = len(ops_behind.intersection(self._ops))
        if rounds < AT_LEAST or before not in ops_behind:
            return None
        updates = self._updates(before, last, behind)
        is_product = self._has_fresh_gradient(before, last, ops_behind)
        if not updates or not (is_product or self._is_of_own(last, updates)) or self._is_walked(updates):
            return None
        tensor = next(one for one in reversed(self._tensors(updates[-1])) if self._node[one] in behind)
        return FedBack(last, tuple(updates), tensor, tuple(sorted(behind)), rounds, is_product)

    def _behind(self, op: int) -> Iterator[int]:
        for root in self._roots[op]:
            yield from self._passes.behind(root)

    def _tensors(self, op: int) -> list[int]:
        return [*self._index.tensors_made(op), *self._index.results.of(op)]

    def _updates(self, before: int, last: int, behind: set[int]) -> list[int]:
        """The last calls of statements that take what they made in an earlier round; else of what the pass gave."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        given, last_of = set(index.made.of(before)), dict[int, int]()
        own, of_given = set[int](), set[int]()
        for op in range(before + 1, last):
            statement = index.op_statement[op]
            if kinds[op] != OpKind.CALL or statement == NOWHERE:
                continue
            if not any(self._node[tensor] in behind for tensor in self._tensors(op) if self._node[tensor] >= 0):
                continue
            taken, last_of[statement] = index.uses.of(op), op
            if any(self._is_earlier(tensor, statement, before) for tensor in taken):
                own.add(statement)
            elif given.intersection(taken):
                of_given.add(statement)
        return sorted(last_of[statement] for statement in own or of_given)

    def _is_earlier(self, tensor: int, statement: int, before: int) -> bool:
        made = self._made_at[tensor]
        is_result = made < before and not self._flags[tensor] & EXTERNAL and self._node[tensor] >= 0
        return is_result and self._index.op_statement[made] == statement

    def _has_fresh_gradient(self, before: int, last: int, ops_behind: set[int]) -> bool:
        """Whether the pass takes a gradient that was computed since, from nothing that an earlier pass gave."""
        rounds = set(self._ops)
        return any(
            before < op < last and op in ops_behind and not rounds.intersection(map(self._made_by.__getitem__, behind))
            for op, behind in ((op, self._behind(op)) for op in self._roots if before < op < last)
        )

    def _is_of_own(self, last: int, updates: list[int]) -> bool:
        """Whether the pass gives the gradient of the very thing that is carried: what is behind it is not needed."""
        statements = {self._index.op_statement[op] for op in updates}
        asked = set(self._index.uses.of(last)).difference(self._index.roots[last])
        return any(
            self._node[tensor] >= 0
            and self._made_at[tensor] < last
            and self._index.op_statement[self._made_at[tensor]] in statements
            for tensor in asked
        )

    def _is_walked(self, updates: list[int]) -> bool:
        """Whether another pass than those of the rounds came through what the statements made, in any run of them."""
        statements = {self._index.op_statement[op] for op in updates}
        walked, rounds = self._passes.last_walked_at, {NONE, *self._ops}
        return any(
            walked[node] not in rounds
            for op, node in zip(self._made_at, self._node, strict=True)
            if node >= 0 and op < self._index.op_count and self._index.op_statement[op] in statements
        )
