"""Whole graphs as the page's script takes them: columns of numbers, and each text once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gradscope.analysis.facts.graphs.whole_graphs import WholeGraph, WholeNode


def graph_data(graphs: Iterable[WholeGraph]) -> list[dict[str, Any]]:
    """One object a graph."""
    return [_data(graph) for graph in graphs]


def _data(graph: WholeGraph) -> dict[str, Any]:
    texts: dict[str, int] = {}

    def text(value: str) -> int:
        return texts.setdefault(value, len(texts))

    nodes = [_node(node, text(node.name), text(node.tensor)) for node in graph.nodes]
    return {
        "texts": list(texts),
        "nodes": nodes,
        "edges": [end for edge in graph.edges for end in edge],
        "folds": [[fold.label, fold.parent, int(fold.is_stretch)] for fold in graph.folds],
        "leftOut": graph.left_out,
    }


def _node(node: WholeNode, name: int, tensor: int) -> list[int]:
    return [name, tensor, node.place.line, node.saved_bytes, node.fold, int(node.is_leaf)]
