"""Leaves whose gradient is zero in every pass, by the calls in which it was seen to end in zeros.

What a call gave was measured: it was given what is not zero and gave zeros alone to a node behind it, in each pass that
was asked. Only calls are told of which it is known what that means; a mask or a factor of zero may well be meant.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.parts_taken import PartTaken, parts_taken
from gradscope.analysis.facts.derivatives.zero_derivatives import LOOKS, function_of_node
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import Index

ELEMENTWISE = frozenset(
    """
    Sigmoid Tanh Softmax LogSoftmax Relu Hardtanh Clamp ClampMin ClampMax Threshold Hardsigmoid Hardswish Erf Elu Gelu
    Silu Softplus LogSigmoidForward
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Nodes of functions that are flat beyond some values."""

SAMPLERS = frozenset(("GridSampler2D", "GridSampler3D"))
"""Nodes that give nothing to a point outside of the image: the second they lead to is that of the points."""

REDUCTIONS = frozenset(("ScatterReduce", "IndexReduce"))
"""Nodes of reductions into what is there: to that first, then to what is reduced."""

JOINS = frozenset(("Stack", "Cat"))
"""Nodes that put tensors together."""

_PLACES: dict[str, frozenset[int]] = {
    **dict.fromkeys(ELEMENTWISE | REDUCTIONS, frozenset()),
    **dict.fromkeys(SAMPLERS, frozenset((1,))),
}


class EndedGradients(NamedTuple):
    """Leaves whose gradient ended in zeros in the same calls."""

    leaves: list[int]
    ops: list[int]
    """In the last pass that was asked; all of one kind."""
    kinds: frozenset[str]
    """The names of their nodes' functions."""
    parts: list[PartTaken]
    """What was taken of what the calls put together, where that is why."""
    looks: list[PassLook]
    """The passes that were looked at."""
    asked: int
    """In how many of them each node was asked."""


class VanishedGradients:
    """Follows gradients to where they ended."""

    def __init__(self, index: Index, passes: Passes, looks: list[PassLook]) -> None:
        self._index = index
        self._passes = passes
        self._looks = looks
        self._known: dict[int, dict[int, frozenset[int]]] = {}
        self._names = index.recording.nodes.column("name")
        self._made_by = index.recording.nodes.column("op")
        self._variable = index.recording.nodes.column("variable")

    def found(self) -> list[EndedGradients]:
        """The leaves, by the calls in which their gradients ended; none of a loss that was zero throughout."""
        if all(not look.vanished for look in self._looks):
            return []
        groups: dict[tuple[int, ...], EndedGradients] = {}
        for leaf in {leaf: None for look in self._looks for leaf in look.gradients}:
            looks = [look for look in self._looks if leaf in look.gradients]
            asked = [look for look in looks if look.vanished is not None]
            if not self._is_told(looks, asked, leaf):
                continue
            ends = [self._ends(look).get(leaf, frozenset()) for look in asked]
            if not all(ends):
                continue
            ops = sorted({self._made_by[node] for node in ends[-1]})
            kinds = frozenset(self._kind(node) for nodes in ends for node in nodes)
            parts = parts_taken(self._index, self._passes, ops) if kinds <= JOINS else []
            if self._is_of_a_kind(kinds) and (parts or not kinds <= JOINS):
                ended = EndedGradients([leaf], ops, kinds, parts, looks, len(asked))
                known = groups.setdefault(tuple(ops), ended)
                if known is not ended:
                    known.leaves.append(leaf)
        return list(groups.values())

    def _is_told(self, looks: list[PassLook], asked: list[PassLook], leaf: int) -> bool:
        """Whether a gradient was zero throughout, over enough passes with a step among them, of a loss that was not."""
        if len(asked) < LOOKS or not all(is_zero(look.gradients[leaf]) for look in looks):
            return False
        if all(is_zero(root) for look in looks for root in look.roots) or any(leaf in look.zeros for look in looks):
            return False
        return any(asked[0].op < step < asked[-1].op for step in self._steps)

    def _is_of_a_kind(self, kinds: frozenset[str]) -> bool:
        return any(kinds <= one for one in (ELEMENTWISE, SAMPLERS, REDUCTIONS, JOINS))

    def _kind(self, node: int) -> str:
        return function_of_node(self._index.recording.text(self._names[node]))

    def _ends(self, look: PassLook) -> dict[int, frozenset[int]]:
        """For each leaf that a pass reaches through such nodes alone: these nodes."""
        known = self._known.get(look.op)
        if known is None:
            known = self._known[look.op] = self._walk(look, look.vanished or {})
        return known

    def _walk(self, look: PassLook, vanished: dict[int, frozenset[int]]) -> dict[int, frozenset[int]]:
        lost: dict[int, list[int]] = {}
        reached: set[int] = set()
        todo = list(self._index.root_nodes(look.op))
        while todo:
            node = todo.pop()
            if node in reached:
                continue
            reached.add(node)
            following, places = list(self._index.edges.of(node)), self._told_places(node, vanished)
            ended = {place for place in places if place < len(following) and following[place] >= 0}
            if ended:
                lost[node] = [following[place] for place in ended]
            todo += [one for place, one in enumerate(following) if one >= 0 and place not in ended]
        found: dict[int, set[int]] = {}
        for node, starts in lost.items():
            for behind in {one for start in starts for one in self._passes.behind(start)}:
                if self._variable[behind] >= 0 and behind not in reached:
                    found.setdefault(self._variable[behind], set()).add(node)
        return {leaf: frozenset(nodes) for leaf, nodes in found.items()}

    def _told_places(self, node: int, vanished: dict[int, frozenset[int]]) -> frozenset[int]:
        """The places of the nodes that got zeros of a node whose zeros can be told; none of others."""
        places, kind = vanished.get(node, frozenset()), self._kind(node) if node in vanished else ""
        if kind in JOINS:
            return places
        only = _PLACES.get(kind)
        return frozenset() if only is None else places & only if only else places

    @cached_property
    def _steps(self) -> list[int]:
        return sorted({op for op, *_ in writes_by_program(self._index) if is_step(self._index, op)})
