"""Functions whose derivative is zero everywhere, and leaves to which every way leads through a derivative of zero.

The table was measured (torch 2.13.0, CPU): a test measures each row again, another one looks through all operators of
torch's own tests for what is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.index import Index

ZERO_EVERYWHERE = frozenset(("Round", "Floor", "Ceil", "Trunc", "Sign", "Bernoulli", "Poisson", "Normal"))
"""Names of their nodes without ``Backward0``. (``sgn`` and ``angle`` are not zero for complex numbers; ``fill_`` and
``zero_`` take nothing of what was there.)"""

LOOKS = 3
"""Passes in which a derivative must have been zero that is not zero everywhere."""

_NUMBER = re.compile(r"Backward\d+$")
"""A Function of the program's (``class Round``) has a node without a number."""


def has_no_derivative(node_name: str) -> bool:
    """Whether a node of this name gives zeros whatever it is given."""
    return _NUMBER.sub("", node_name) in ZERO_EVERYWHERE


class Blocked(NamedTuple):
    """Leaves whose gradient was zero in every pass that was looked at, with what it was lost in."""

    leaves: list[int]
    ops: list[int]
    """The calls whose derivative was zero, in the last of the passes: every way leads through one of them."""
    everywhere: bool
    """The derivative of each of them is zero everywhere."""
    passes: list[PassLook]


class ZeroGradients:
    """Finds leaves that get nothing but zeros, where it is known why."""

    def __init__(self, index: Index, passes: Passes, looks: list[PassLook]) -> None:
        self._index = index
        self._passes = passes
        self._looks = looks
        self._known: dict[int, dict[int, frozenset[int]]] = {}

    def found(self) -> list[Blocked]:
        """The leaves, by what blocks the way to them."""
        looked_at: dict[int, list[PassLook]] = {}
        for look in self._looks:
            for leaf in look.gradients:
                looked_at.setdefault(leaf, []).append(look)
        groups: dict[tuple[int, ...], Blocked] = {}
        for leaf, looks in looked_at.items():
            if not all(is_zero(look.gradients[leaf]) for look in looks):
                continue
            blocks = [self._blocks(look).get(leaf, frozenset()) for look in looks]
            if not all(blocks):
                continue
            everywhere = all(self._is_certain(node) for nodes in blocks for node in nodes)
            if everywhere or self._lasts(looks):
                ops = sorted({self._made_by[node] for node in blocks[-1]})
                groups.setdefault(tuple(ops), Blocked([], ops, everywhere, looks)).leaves.append(leaf)
        return list(groups.values())

    def _lasts(self, looks: list[PassLook]) -> bool:
        """Whether it stayed so over enough passes, with a step among them."""
        return len(looks) >= LOOKS and any(looks[0].op < step < looks[-1].op for step in self._steps)

    def _blocks(self, look: PassLook) -> dict[int, frozenset[int]]:
        """For each leaf that a pass reaches through nodes alone whose derivative is zero: those nodes."""
        known = self._known.get(look.op)
        if known is None:
            known = self._known[look.op] = self._walk(look)
        return known

    def _walk(self, look: PassLook) -> dict[int, frozenset[int]]:
        rows = self._index.recording.backwards
        roots = [row.node for row in rows if row.op == look.op and row.node >= 0]
        flat = {one.node for one in look.derivatives if is_zero(one.values)}
        if not (flat or self._certain):
            return {}
        blocking: set[int] = set()
        reached: set[int] = set()
        todo = list(roots)
        while todo:
            node = todo.pop()
            if node in reached or node in blocking:
                continue
            if node in flat or self._is_certain(node):
                blocking.add(node)
                continue
            reached.add(node)
            todo += self._following(node)
        found: dict[int, set[int]] = {}
        for node in blocking:
            for behind in self._passes.behind(node):
                leaf = self._variable[behind]
                if leaf >= 0 and behind not in reached:
                    found.setdefault(leaf, set()).add(node)
        return {leaf: frozenset(nodes) for leaf, nodes in found.items()}

    def _following(self, node: int) -> Iterable[int]:
        return (after for after in self._index.edges.of(node) if after >= 0)

    def _is_certain(self, node: int) -> bool:
        return self._names[node] in self._certain

    @cached_property
    def _certain(self) -> frozenset[int]:
        text = self._index.recording.text
        return frozenset(name for name in set(self._names) if has_no_derivative(text(name)))

    @cached_property
    def _names(self) -> list[int]:
        return list(self._index.recording.nodes.column("name"))

    @cached_property
    def _variable(self) -> list[int]:
        return list(self._index.recording.nodes.column("variable"))

    @cached_property
    def _made_by(self) -> list[int]:
        return list(self._index.recording.nodes.column("op"))

    @cached_property
    def _steps(self) -> list[int]:
        return sorted({op for op, *_ in writes_by_program(self._index) if is_step(self._index, op)})
