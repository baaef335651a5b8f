"""The graphs of a report as nodes and edges, for languages that draw graphs: each node once, edges as values flow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from gradscope.analysis.report_model import Graph, GraphRow
from gradscope.analysis.sizes import size
from gradscope.report.run.summary import counted, graph_title
from gradscope.report.screen.text import safe

Shape = Literal["node", "leaf", "folded"]


class DrawnNode(NamedTuple):
    """One node."""

    key: str
    """Unique among all graphs of a report."""
    shape: Shape
    lines: tuple[str, ...]
    """What is written in it; nothing that a terminal would obey."""


class DrawnGraph(NamedTuple):
    """One graph."""

    title: str
    nodes: tuple[DrawnNode, ...]
    edges: tuple[tuple[str, str], ...]
    """From what goes into a node to the node."""


def drawn_graphs(graphs: Sequence[Graph]) -> list[DrawnGraph]:
    """Every graph of a report."""
    return [_drawn(graph, at) for at, graph in enumerate(graphs)]


def _drawn(graph: Graph, at: int) -> DrawnGraph:
    keys = [f"g{at}n{row.node}" if row.node >= 0 else f"g{at}f{place}" for place, row in enumerate(graph.rows)]
    first: dict[str, DrawnNode] = {}  # a row that only refers to a node comes after it, or to one that was folded away
    for key, row in zip(keys, graph.rows, strict=True):
        first.setdefault(key, _node(key, row))
    edges = tuple((key, keys[row.parent]) for key, row in zip(keys, graph.rows, strict=True) if row.parent >= 0)
    return DrawnGraph(graph_title(graph), tuple(first.values()), edges)


def _node(key: str, row: GraphRow) -> DrawnNode:
    if row.folded:
        return DrawnNode(key, "folded", (f"{counted(row.folded, 'node')}: {safe(row.summary)}",))
    line = [f"line {row.line}"] if row.line else []
    if row.is_leaf:
        return DrawnNode(key, "leaf", (safe(row.tensor or "a leaf without a name"), *line))
    saved = [f"saved {size(sum(item.nbytes for item in row.saved))}"] if row.saved else []
    return DrawnNode(key, "node", (safe(row.name), *([safe(row.tensor)] if row.tensor else []), *line, *saved))
