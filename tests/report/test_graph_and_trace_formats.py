"""Graphs in languages that draw them, and the run as trace events: what is in them is what was recorded."""

from __future__ import annotations

import json
import re
import warnings
from io import StringIO
from typing import Any

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.recording import Recording
from gradscope.report.formats import format_named
from gradscope.report.run.run_result import RunResult
from tests.analysis.building import Builder, recorded
from tests.report.test_console import HOSTILE

GRAPH = """
import torch
w = torch.ones(2, requires_grad=True)
h = w * w
(h + h.exp()).sum().backward()
"""
CHAIN = """
import torch
w = torch.ones(2, requires_grad=True)
for _ in range(40):
    w = w * 2
w.sum().backward()
"""


def written(name: str, recording: Recording) -> str:
    stream = StringIO()
    format_named(name, "run").writer("run")(RunResult(recording, RunView()), stream)
    return stream.getvalue()


def hostile(source: str) -> Recording:
    """A recording every text of which has something that a reader might obey."""
    recording = recorded(source)
    for at in range(1, len(recording.strings)):
        recording.strings[at] += HOSTILE
    recording.info.target = f'"];\n{HOSTILE}'
    return recording


def parsed_dot(text: str) -> list[Any]:
    """The clusters of the one graph that a parser of DOT finds."""
    pydot = pytest.importorskip("pydot")
    with warnings.catch_warnings():  # it uses old names of its parser's
        warnings.simplefilter("ignore")
        graphs = pydot.graph_from_dot_data(text)
    assert graphs is not None and len(graphs) == 1
    return list(graphs[0].get_subgraphs())


def test_dot_has_each_node_once_and_each_edge():
    recording = recorded(GRAPH)
    (cluster,) = parsed_dot(written("dot", recording))
    labels = {node.get_name(): node.get("label").strip('"') for node in cluster.get_nodes()}
    assert len(labels) == build(recording).graphs[0].nodes == len(cluster.get_nodes())
    edges = {
        (labels[edge.get_source()].split("\\n")[0], labels[edge.get_destination()].split("\\n")[0])
        for edge in cluster.get_edges()
    }
    assert ("w", "MulBackward0") in edges and ("MulBackward0", "AddBackward0") in edges
    assert "ExpBackward0\\nline 4\\nsaved 8 B" in labels.values()


def test_dot_shows_what_was_folded_and_says_where_nothing_was_seen():
    (cluster,) = parsed_dot(written("dot", recorded(CHAIN)))
    assert any("nodes: " in node.get("label") for node in cluster.get_nodes())
    assert parsed_dot(written("dot", Builder().recording)) == []
    assert "no graph was seen" in written("dot", Builder().recording)


def test_no_text_of_a_program_is_obeyed():
    recording = hostile(GRAPH)
    assert len(parsed_dot(written("dot", recording))) == 1
    for name in ("dot", "mermaid", "trace"):
        assert not set(written(name, recording)) & set("\x1b\x07\r\x9b\u202e\u2066"), name
    text = written("mermaid", recording)
    assert "<script" not in text and "[red]" not in text and all(line.count('"') in (0, 2) for line in text.split("\n"))


def test_mermaid_is_a_flowchart_of_nodes_and_edges():
    head, first, *lines, end, style = written("mermaid", recorded(GRAPH)).splitlines()
    assert (head, end) == ("flowchart TB", "  end") and style.startswith("  classDef leaf ")
    assert first == '  subgraph graph0["Graph of #60;(h #43; h.exp()).sum()#62;, backward at line 4: 5 nodes, 5 deep"]'
    nodes = [line for line in lines if re.fullmatch(r'    g0n\d+(\["[^"]+"\]|\(\["[^"]+"\]\):::leaf)', line)]
    edges = [line for line in lines if re.fullmatch(r"    g0n\d+ --> g0n\d+", line)]
    assert (
        len(nodes) == 5 and len(edges) == len(lines) - 5 and any("(w * w)" in line or "h<br>" in line for line in nodes)
    )
    assert 'none["no graph was seen"]' in written("mermaid", Builder().recording)


THREADS = """
import threading
import torch
w = torch.ones(1000, requires_grad=True)
def work():
    for _ in range(2):
        (w * 2).sum().backward()
thread = threading.Thread(target=work)
thread.start()
thread.join()
try:
    w + torch.ones(3)
except RuntimeError:
    pass
"""


def events(recording: Recording) -> list[dict[str, Any]]:
    """The events of a trace, each as the Trace Event Format says."""
    trace = json.loads(written("trace", recording))
    assert trace["displayTimeUnit"] in ("ms", "ns") and all(isinstance(v, str) for v in trace["otherData"].values())
    for event in trace["traceEvents"]:
        assert isinstance(event["name"], str) and event["name"] and event["pid"] == 1
        assert {"X": event.get("dur", 0) > 0 and event.get("tid", -1) >= 0, "C": True, "M": True}[event["ph"]]
        assert event["ph"] == "M" or event["ts"] >= 0
        if event["ph"] == "C":
            assert all(isinstance(value, int) for value in event["args"].values())
    return list(trace["traceEvents"])


def test_a_trace_has_lines_calls_and_memory():
    recording = recorded(THREADS)
    found = events(recording)
    calls = [event for event in found if event["ph"] == "X" and event["cat"] != "line"]
    lines = [event for event in found if event.get("cat") == "line"]
    assert [event["ts"] for event in calls] == list(range(len(recording.ops)))
    for call in calls:
        around = [
            one for one in lines if one["tid"] == call["tid"] and one["ts"] <= call["ts"] < one["ts"] + one["dur"]
        ]
        assert len(around) == 1, call
    assert sum(one["name"] == "6: (w * 2).sum().backward()" for one in lines) == 1  # two runs with nothing between
    assert {one["tid"] for one in lines} == {0, 1} and sum(event["name"] == "thread_name" for event in found) == 2
    assert [call["name"] for call in calls if call["args"].get("raised")] == ["Tensor.add"]
    memory = [event["args"]["bytes in use"] for event in found if event["ph"] == "C"]
    assert max(memory) == build(recording).memory.peak_bytes and 4000 in memory
    assert any(call["args"]["inputs"] == ["w"] for call in calls)


def test_an_empty_trace_is_one_too():
    assert [event["ph"] for event in events(Builder().recording)] == ["M"]
