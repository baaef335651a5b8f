"""The nodes of a long graph by the modules that made them, so that each module is one row of the tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gradscope.analysis.facts.modules.module_trees import ModuleTrees
from gradscope.analysis.index import Index
from gradscope.analysis.sizes import size
from gradscope.analysis.worded_lines import stretch

LONG = 100
"""Nodes from which on a graph is folded."""
_LEAST = 4
"""Nodes of a module that are folded."""
_TRIES = 2000
"""Ops before a backward pass at which the forward pass that it belongs to is looked for."""


class ModuleUnit(NamedTuple):
    """What one module made in one graph."""

    nodes: frozenset[int]
    name: str
    """``model.blocks.0 (Block)``"""
    lines: tuple[int, int]
    """The first and the last line that made them."""

    def summary(self, saved_bytes: int, leaves: int) -> str:
        """What is said of it beside the number of its nodes."""
        first, last = self.lines
        where = stretch(first, last)
        return f"{self.name}, saved {size(saved_bytes)}, {where}, {leaves:,} {'leaf' if leaves == 1 else 'leaves'}"


class ModuleUnits:
    """Finds them.

    Args:
        index: The recording.
        trees: Its modules.
        following: Gives the nodes that a node leads to.
    """

    def __init__(self, index: Index, trees: ModuleTrees, following: Callable[[int], Iterable[int]]) -> None:
        self._index = index
        self._trees = trees
        self._following = following

    def of(self, nodes: list[int], op: int) -> list[ModuleUnit]:
        """The units of a graph that a backward pass (its op; NONE: none) walked; none where it is short."""
        modules = self._modules_of_ops(op) if len(nodes) >= LONG else {}
        if not modules:
            return []
        made_by, variables = (self._index.recording.nodes.column(name) for name in ("op", "variable"))
        found: dict[int, set[int]] = {}
        owners: dict[int, set[int]] = {}
        for node in nodes:
            module = modules.get(made_by[node], -1) if variables[node] < 0 else -1
            if module >= 0:
                found.setdefault(module, set()).add(node)
            for after in self._following(node):
                if after >= 0 and variables[after] >= 0:
                    owners.setdefault(after, set()).add(module)
        for leaf, several in owners.items():  # a parameter that only one module uses is a part of it
            if len(several) == 1 and (module := next(iter(several))) >= 0:
                found[module].add(leaf)
        return [self._unit(module, several) for module, several in found.items() if len(several) >= _LEAST]

    def _unit(self, module: int, nodes: set[int]) -> ModuleUnit:
        made_by, variables = (self._index.recording.nodes.column(name) for name in ("op", "variable"))
        lines = [line for node in nodes if variables[node] < 0 and (line := self._index.op_line(made_by[node]))]
        return ModuleUnit(
            frozenset(nodes), self._trees.full_name(module), (min(lines, default=0), max(lines, default=0))
        )

    def _modules_of_ops(self, op: int) -> dict[int, int]:
        """The module of each op of the forward passes before a backward pass.

        Which op ran in which module was looked at once: of a later pass it is known where it is the same calls, at the
        same lines in the same order.
        """
        found: dict[int, int] = {}
        end = op if op >= 0 else self._index.op_count
        for looked in self._trees.passes.values():
            first, count = looked[0][0], len(looked)
            start = self._start_of_same(first, count, end)
            if start is not None:
                found.update((start + at, self._trees.unit(module)) for at, (_, module) in enumerate(looked))
        return {at: module for at, module in found.items() if module >= 0}

    def _start_of_same(self, first: int, count: int, end: int) -> int | None:
        """Where the last run of the same calls begins that is over before an op."""
        columns = [self._index.recording.ops.column(name) for name in ("func", "span", "inner")]
        for start in range(end - count, max(-1, end - count - _TRIES), -1):
            if all(column[start : start + count] == column[first : first + count] for column in columns):
                return start
        return None
