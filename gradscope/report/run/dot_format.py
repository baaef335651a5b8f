"""DOT, the language of Graphviz: the autograd graphs, for ``dot -Tsvg`` and whatever else reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from gradscope.report.run.drawn_graph import DrawnGraph, DrawnNode, drawn_graphs
from gradscope.report.run.run_result import RunResult
from gradscope.report.screen.text import safe

_LOOK = {
    "node": "shape=box",
    "leaf": 'shape=ellipse, style=filled, fillcolor="#d5ecd5"',
    "folded": "shape=box, style=dashed",
}


def write(result: RunResult, stream: TextIO) -> None:
    """Write one directed graph, a cluster for each graph of the report."""
    run, graphs = result.report.run, drawn_graphs(result.report.graphs)
    title = safe(f"gradscope {run.target or run.kind}")
    label = title if graphs else f"{title}: no graph was seen"
    lines = [
        "digraph gradscope {",
        f"  label={_quoted(label)};",
        '  labelloc=t; rankdir=TB; node [fontname="monospace", fontsize=10];',
        *(line for at, graph in enumerate(graphs) for line in _cluster(at, graph)),
        "}",
    ]
    stream.write("\n".join(lines) + "\n")


def _cluster(at: int, graph: DrawnGraph) -> Iterator[str]:
    yield f"  subgraph cluster_{at} {{"
    yield f"    label={_quoted(graph.title)};"
    yield from (f"    {_node(node)}" for node in graph.nodes)
    yield from (f"    {before} -> {after};" for before, after in graph.edges)
    yield "  }"


def _node(node: DrawnNode) -> str:
    return f"{node.key} [label={_quoted(*node.lines)}, {_LOOK[node.shape]}];"


def _quoted(*lines: str) -> str:
    """A string of several lines; DOT obeys nothing in one but quotes and backslashes."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(escaped) + '"'
