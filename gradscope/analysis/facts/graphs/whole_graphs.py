"""Whole graphs, node by node, folded by the modules whose parameters they use: for pages on which one looks around.

Modules are known by the names of their parameters alone (``model.encoder.0.weight``). A node that uses a parameter
stands in its module, one that uses several in what these have in common. One that uses none stands beside the last node
before it that does, or else the next, of those made by the same statement, or else in the same function; where no such
node is, in its function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import NamedTuple

from gradscope.analysis.facts.gradients import Gradients
from gradscope.analysis.facts.graphs.graph_trees import Graphs, Root
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Place

NODES = 20_000
"""Nodes of one graph that are described, those nearest to the root."""
CHILDREN = 40
"""Parts of one fold; where there are more, they are folded in turn."""
_STEP = re.compile(r"[^.\[\]]+|\[[^\]]*\]")

Path = tuple[str, ...]


class WholeNode(NamedTuple):
    """One node of a graph."""

    name: str
    """``MulBackward0``."""
    tensor: str
    """Name of its result, or of the leaf; empty where it has none."""
    place: Place
    is_leaf: bool
    saved_bytes: int
    fold: int
    """Position of the fold in which it stands."""


class Fold(NamedTuple):
    """A part of a graph that can be shown as one."""

    label: str
    parent: int
    """Position of the fold around it; -1 for the first, which is the whole graph."""
    is_stretch: bool
    """It is no module and no function, but some of the parts of the one around it, of which there are too many."""


class WholeGraph(NamedTuple):
    """A graph."""

    root: str
    line: int
    nodes: tuple[WholeNode, ...]
    """The root first."""
    edges: tuple[tuple[int, int], ...]
    """From a node to one of its inputs, by their positions."""
    folds: tuple[Fold, ...]
    left_out: int
    """Nodes further away that are not described."""


class WholeGraphs:
    """Describes the graphs of an index: those that a report shows as trees."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._names = names = BestNames(index)
        cuts, self._passes, sharing = Cuts(index), Passes(index), StorageGroups(index, names)
        gradients = Gradients(index, names, cuts, Flow(index, sharing), self._passes)
        self._graphs = Graphs(index, names, self._passes, gradients)

    def describe(self) -> Iterator[WholeGraph]:
        """Each graph, in the order of the report's."""
        yield from map(self._describe, self._graphs.roots())

    def _describe(self, root: Root) -> WholeGraph:
        found = self._walk(root.node)
        members = found[:NODES]
        position = {node: at for at, node in enumerate(members)}
        edges = [
            (at, position[after]) for at, node in enumerate(members) for after in self._next(node) if after in position
        ]
        paths = self._paths(members, root.op)
        folds, fold_of = _folds([paths[node] for node in members])
        return WholeGraph(
            root=self._names.at(root.tensor, root.op),
            line=self._index.op_line(root.op),
            nodes=tuple(self._node(node, root.op, fold) for node, fold in zip(members, fold_of, strict=True)),
            edges=tuple(edges),
            folds=tuple(folds),
            left_out=len(found) - len(members),
        )

    def _next(self, node: int) -> list[int]:
        starts = self._passes.edge_starts
        return [after for after in self._index.edges.values[starts[node] : starts[node + 1]] if after >= 0]

    def _walk(self, root: int) -> list[int]:
        """Every node behind one, the nearest first."""
        found, seen = [root], {root}
        for node in found:
            for after in self._next(node):
                if after not in seen:
                    seen.add(after)
                    found.append(after)
        return found

    def _node(self, node: int, op: int, fold: int) -> WholeNode:
        row = self._index.recording.nodes[node]
        is_leaf = row.variable >= 0
        tensor = row.variable if is_leaf else self._index.node_tensor[node]
        name = self._names.at(tensor, op if is_leaf else row.op)
        saved = self._index.recording.saved.column("nbytes")
        return WholeNode(
            name=self._index.recording.text(row.name),
            tensor="" if name.startswith("<") else name,
            place=self._index.op_place(self._index.made_by(row.variable) if is_leaf else row.op),
            is_leaf=is_leaf,
            saved_bytes=sum(saved[at] for at in self._index.saved.of(node)),
            fold=fold,
        )

    def _paths(self, members: Sequence[int], op: int) -> dict[int, Path]:
        """Where each node stands, from the outermost module inwards."""
        nodes = self._index.recording.nodes
        made_at, variables = nodes.column("op"), nodes.column("variable")
        paths = {node: _module_of(self._names.at(variables[node], op)) for node in members if variables[node] >= 0}
        inner = [
            node for node in reversed(members) if variables[node] < 0
        ]  # of one call, what was made first stands first
        ordered = sorted(inner, key=made_at.__getitem__)
        for node in ordered:
            inputs = self._next(node)
            used = [paths[after] for after in inputs if self._is_of_parameters(after, paths) and paths[after]]
            if used:
                paths[node] = _common(used)
        users = {node for node in ordered if paths.get(node)}
        for around in (self._index.op_place, self._function):
            for direction in (ordered, ordered[::-1]):
                self._stand_beside(direction, users, paths, around)
        for node in members:
            if not paths.get(node):
                paths[node] = (self._function(made_at[node]),)
        return paths

    def _stand_beside(
        self, nodes: Sequence[int], users: set[int], paths: dict[int, Path], around: Callable[[int], Hashable]
    ) -> None:
        """Nodes that stand nowhere yet stand where the last one before them does that uses a parameter."""
        made_at, last = self._index.recording.nodes.column("op"), {}
        for node in nodes:
            where = around(made_at[node])
            if node in users:
                last[where] = paths[node][:-1] or paths[node]
            elif not paths.get(node) and where in last:
                paths[node] = last[where]

    def _is_of_parameters(self, node: int, paths: dict[int, Path]) -> bool:
        """Whether a node is a leaf, or is made of leaves alone: a weight that is transposed."""
        if self._index.recording.nodes.column("variable")[node] >= 0:
            return True
        inputs = self._next(node)
        variables = self._index.recording.nodes.column("variable")
        return node in paths and all(variables[after] >= 0 for after in inputs)

    def _function(self, op: int) -> str:
        place = self._index.op_place(op)
        return place.file if place.function in ("", "<module>") else place.function


def _module_of(name: str) -> Path:
    """The module of a parameter: the steps of its name but the last; nothing for a name of one step."""
    return () if name.startswith("<") else tuple(_STEP.findall(name)[:-1])


def _common(paths: Sequence[Path]) -> Path:
    shortest = min(paths, key=len)
    at = next((at for at, step in enumerate(shortest) if any(path[at] != step for path in paths)), len(shortest))
    return shortest[:at]


def _folds(paths: Sequence[Path]) -> tuple[list[Fold], list[int]]:
    """The folds of a graph, and in which each node stands; none has more parts than can be looked at."""
    labels, parents = [""], [-1]
    known: dict[Path, int] = {(): 0}
    for path in dict.fromkeys(paths):
        for depth in range(1, len(path) + 1):
            if path[:depth] not in known:
                known[path[:depth]] = len(labels)
                labels.append(path[depth - 1])
                parents.append(known[path[: depth - 1]])
    fold_of, named = [known[path] for path in paths], len(labels)
    folds_in: dict[int, list[int]] = {}
    for fold, parent in enumerate(parents):
        folds_in.setdefault(parent, []).append(fold)
    nodes_in: dict[int, list[int]] = {}
    for node, fold in enumerate(fold_of):
        nodes_in.setdefault(fold, []).append(node)
    for fold, parts in folds_in.items():
        spoken = [labels[part] for part in parts]
        _stretch(parts, parents, fold, labels, parents, spoken)
    for fold, parts in nodes_in.items():
        spoken = [f"node {at:,}" for at in range(1, len(parts) + 1)]
        _stretch(parts, fold_of, fold, labels, parents, spoken)
    folds = [Fold(label, parent, at >= named) for at, (label, parent) in enumerate(zip(labels, parents, strict=True))]
    return folds, fold_of


def _stretch(
    parts: list[int], holders: list[int], fold: int, labels: list[str], parents: list[int], spoken: list[str]
) -> None:
    """Put the parts of a fold into folds of stretches, and these into longer ones, until it has few enough.

    Args:
        parts: The nodes of the fold, or the folds in it.
        holders: For every node, or every fold, in which fold it is; changed.
        fold: The fold.
        labels: Of every fold; grows.
        parents: Of every fold; grows.
        spoken: What each part is called.
    """
    spans = [(at, at) for at in range(len(parts))]
    while len(parts) > CHILDREN:
        above, ends = [], []
        for start in range(0, len(parts), CHILDREN):
            first, last = spans[start][0], spans[min(start + CHILDREN, len(parts)) - 1][1]
            for part in parts[start : start + CHILDREN]:
                holders[part] = len(labels)
            above.append(len(labels))
            ends.append((first, last))
            labels.append(f"{spoken[first]} to {spoken[last]}")
            parents.append(fold)
        parts, spans, holders = above, ends, parents
