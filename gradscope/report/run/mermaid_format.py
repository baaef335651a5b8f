"""Mermaid: the autograd graphs as GitHub, GitLab and Jupyter draw them from a block of a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TextIO

from gradscope.report.run.drawn_graph import DrawnGraph, DrawnNode, drawn_graphs
from gradscope.report.run.run_result import RunResult

_SHAPES = {"node": '["{}"]', "leaf": '(["{}"])', "folded": '[["{}"]]'}
_OBEYED = re.compile(r"[^\w .,:()=×…→-]")
"""What Mermaid, or the HTML that it makes, might obey."""


def write(result: RunResult, stream: TextIO) -> None:
    """Write one flowchart, a subgraph for each graph of the report."""
    graphs = drawn_graphs(result.report.graphs)
    lines = [line for at, graph in enumerate(graphs) for line in _subgraph(at, graph)]
    lines = lines or ['  none["no graph was seen"]']
    stream.write("\n".join(["flowchart TB", *lines, "  classDef leaf fill:#d5ecd5,color:#000"]) + "\n")


def _subgraph(at: int, graph: DrawnGraph) -> Iterator[str]:
    yield f'  subgraph graph{at}["{_text(graph.title)}"]'
    yield from (f"    {_node(node)}" for node in graph.nodes)
    yield from (f"    {before} --> {after}" for before, after in graph.edges)
    yield "  end"


def _node(node: DrawnNode) -> str:
    shape = _SHAPES[node.shape].format("<br>".join(map(_text, node.lines)))
    return f"{node.key}{shape}{':::leaf' if node.shape == 'leaf' else ''}"


def _text(line: str) -> str:
    """Text in quotes: characters that might be obeyed as Mermaid's own entities (``#35;``)."""
    return _OBEYED.sub(lambda found: f"#{ord(found[0])};", line)
