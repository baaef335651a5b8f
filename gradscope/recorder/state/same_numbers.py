"""Which of several nodes with one number a node is, where threads number theirs alike.

Torch counts nodes in each thread, from zero in a new one; so a number and a type are those of many nodes in a program
that starts a thread in each step. A node is one that was seen where what it leads to is what that one led to, and so
on until the numbers are one thread's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gradscope.recorder.tape import Tape
from gradscope.recording.tables import NONE

_DEPTH = 12
"""Edges from a node at which it is taken for the same without a further look."""
_LOOKS = 256
"""Nodes that are looked at for one."""


class SameNumbers:
    """Looks at what nodes lead to.

    Args:
        tape: Where edges are.
        candidates: The rows that a node may have by its number and its type; of a node without a number the one row.
        op_of: The op at which a row was entered.
    """

    def __init__(self, tape: Tape, candidates: Callable[[Any], list[int]], op_of: Callable[[int], int]) -> None:
        self._tape = tape
        self._candidates = candidates
        self._op_of = op_of
        self._looks = 0

    def row_of(self, node: Any) -> int:
        """The row of a node, the last where several lead to the same; NONE where it is none that was seen."""
        self._looks = _LOOKS
        newest_first = sorted(self._candidates(node), reverse=True)
        return next((row for row in newest_first if self._leads_alike(node, row, _DEPTH)), NONE)

    def _leads_alike(self, node: Any, row: int, depth: int) -> bool:
        self._looks -= 1
        edges = list(self._edges(row)) if depth and self._looks > 0 else ()
        if not edges:  # (those of a node that is being entered come later)
            return True
        following = node.next_functions
        return len(edges) == len(following) and all(
            self._leads_to(one, known, depth) for (one, _), known in zip(following, edges, strict=True)
        )

    def _leads_to(self, following: Any, known: int, depth: int) -> bool:
        if following is None or known == NONE:
            return following is None and known == NONE
        candidates = self._candidates(following)
        return known in candidates and (len(candidates) == 1 or self._leads_alike(following, known, depth - 1))

    def _edges(self, row: int) -> Iterator[int]:
        """The rows that a row leads to.

        Edges are in the order of the ops at which they were entered, and those of one row beside each other.
        """
        low, high = 0, self._count()
        while low < high:
            middle = (low + high) // 2
            if self._edge(middle)[0] < row:
                low = middle + 1
            else:
                high = middle
        op = self._op_of(row)
        while low > 0 and self._op_of(self._edge(low - 1)[0]) == op:
            low -= 1
        for position in range(low, self._count()):
            node, following = self._edge(position)
            if node == row:
                yield following
            elif self._op_of(node) > op:
                return

    def _count(self) -> int:
        return len(self._tape.recording.edges) + len(self._tape.pending["edges"]) // 2

    def _edge(self, position: int) -> tuple[int, int]:
        edges, pending = self._tape.recording.edges, self._tape.pending["edges"]
        kept = len(edges)
        if position < kept:
            return edges.column("node")[position], edges.column("next")[position]
        at = 2 * (position - kept)
        return pending[at], pending[at + 1]
