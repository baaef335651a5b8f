"""Pages: whole, loading nothing, and obeying nothing of a program's; what they show is what was recorded."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from io import StringIO
from typing import Any

import pytest

from gradscope.analysis.facts.graphs.whole_graphs import CHILDREN, NODES, WholeGraph, WholeGraphs
from gradscope.analysis.facts.memory.memory_timeline import COLUMNS, memory_timeline
from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.recording import Recording
from gradscope.report.formats import format_named
from gradscope.report.html.compare_page import as_html
from gradscope.report.html.source_view import highlighted
from gradscope.report.run.run_result import RunResult
from tests.analysis.building import Builder, recorded
from tests.compare.test_screen import hostile
from tests.report.test_console import HOSTILE
from tests.report.test_what_is_written import RICH, hostile_run

MODULES = """
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
    def forward(self, x):
        return x + self.second(self.first(x).relu())
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(2))
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x
net = Net()
loss = net(torch.ones(2, 3)).sum()
loss.backward()
"""
CHAIN = """
import torch
w = start = torch.ones(2, requires_grad=True)
for _ in range(2500):
    w = w * 2 + 1
w.sum().backward()
"""
MANY = """
import torch
from torch import nn
net = nn.ModuleList(nn.Linear(1, 1) for _ in range(1700))
h = torch.ones(1, 1)
for layer in net:
    h = layer(h)
h.sum().backward()
"""


class Page(HTMLParser):
    """The elements of a page, with the text of those that are not shown as text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.raw: dict[str, list[str]] = {"style": [], "script": []}
        self.data: dict[str, Any] = {}
        self.shown = ""
        self._inside = ""
        self._data_id = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        found = dict(attrs)
        self._inside = tag if tag in self.raw else ""
        self._data_id = found.get("id") or "" if found.get("type") == "application/json" else ""

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.shown += data
        elif self._data_id:
            self.data[self._data_id] = json.loads(data)
        else:
            self.raw[self._inside].append(data)

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


def written(recording: Recording, view: RunView | None = None) -> str:
    stream = StringIO()
    format_named("html", "run").writer("run")(RunResult(recording, view or RunView()), stream)
    return stream.getvalue()


def whole(recording: Recording) -> WholeGraph:
    (graph,) = WholeGraphs(Index(recording)).describe()
    return graph


def path_of(graph: WholeGraph, fold: int) -> list[str]:
    steps = []
    while fold > 0:
        label, fold, _ = graph.folds[fold]
        steps.insert(0, label)
    return steps


def assert_inert(text: str, own: str) -> None:
    """Nothing is loaded, no script runs but the page's own, and no character hides or reorders others."""
    page, plain = Page(text), Page(own)
    assert page.tags <= plain.tags | {"pre"} and not page.tags & {"img", "link", "iframe", "object", "base", "form"}
    assert {name for name, _ in page.attributes} <= {name for name, _ in plain.attributes} | {"open", "title"}
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("style", "src", "srcset")]
    assert all(value.startswith("#") for value in page.values("href"))
    assert not set(text) & set("\x1b\x07\r\x9b\u202e\u2066\u2028")
    (policy,) = (value for value in page.values("content") if "default-src" in value)
    (style,), (script,) = page.raw["style"], page.raw["script"]
    for name, body in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_page_loads_nothing_and_obeys_nothing():
    own = written(recorded(RICH))
    recording = hostile_run()
    recording.info.target = recording.info.title = f"</title></script><img src=x onerror=alert(1)>{HOSTILE}"
    view = RunView(all=True, memory=True)
    text = written(recording, view)
    assert_inert(text, own)
    page = Page(text)
    assert "</title></script><img src=x onerror=alert(1)>" in page.shown
    assert any("loss\\x1b[31mred" in one for graph in page.data["graph-data"] for one in graph["texts"])
    assert "\\u202e" in page.shown


def test_a_page_of_a_comparison_is_inert_too():
    from gradscope.experiments.compare.comparing import compare

    comparison = compare()
    text = as_html(comparison)
    assert_inert(as_html(hostile()), text)
    shown = " ".join(Page(text).shown.split())
    assert "Ways to stop a gradient" in shown and "silently wrong" in shown
    for group in comparison.groups:
        for row in group.rows:
            assert " ".join(row.label.split()) in shown
    assert set(Page(text).values("href")) <= {f"#{one}" for one in Page(text).values("id")}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("recording", [recorded(RICH), Builder().recording], ids=["rich", "empty"])
def test_every_link_leads_somewhere_and_the_source_is_whole(recording: Recording):
    page = Page(written(recording))
    ids = page.values("id")
    assert len(ids) == len(set(ids)) and set(page.values("href")) <= {f"#{one}" for one in ids}
    report = build(recording)
    for answer in report.answers:
        assert f"code-{answer.code}" in ids and " ".join(answer.text.split()) in page.shown
    for row in report.lines:
        assert f"f0-{row.line}" in ids
    for file in recording.files if report.lines else ():
        for line in file.text.split("\n"):
            assert line in page.shown


@pytest.mark.parametrize("text", ["", "x = 1", "def f(:\n'''a\nb'''\n\n\n# é\n", "a\r\nb\x0c\n", "\ufeffx\n"])
def test_a_highlighted_source_is_the_source(text: str):
    lines = ["".join(piece.text for piece in line) for line in highlighted(text)]
    assert "\n".join(lines) == text.removesuffix("\n")


def test_the_timeline_is_the_memory_in_use():
    recording = recorded(CHAIN)
    index = Index(recording)
    use = MemoryUse(index)
    timeline = memory_timeline(index, use)
    assert 400 < len(timeline.ops) <= COLUMNS and max(timeline.total) == build(recording).memory.peak_bytes
    assert [sum(parts) for parts in zip(*(one.nbytes for one in timeline.series), strict=True)] == [*timeline.total]
    assert all(value >= 0 for one in timeline.series for value in one.nbytes)
    assert timeline.series[0].place is not None and timeline.series[0].place.line == 4
    assert memory_timeline(Index(Builder().recording), MemoryUse(Index(Builder().recording))).ops == ()


def test_nodes_stand_in_the_modules_whose_parameters_they_use():
    graph = whole(recorded(MODULES))
    where = {(node.name, node.tensor): path_of(graph, node.fold) for node in graph.nodes}
    assert where["AccumulateGrad", "net.blocks.1.first.weight"] == ["net", "blocks", "1", "first"]
    relus = [path_of(graph, node.fold) for node in graph.nodes if node.name == "ReluBackward0"]
    assert relus == [["net", "blocks", "1"], ["net", "blocks", "0"]]
    assert path_of(graph, graph.nodes[0].fold) == ["snippet.py"] and graph.nodes[0].name == "SumBackward0"
    adds = [path_of(graph, node.fold)[-1] for node in graph.nodes if node.name == "AddBackward0"]
    assert adds == ["1", "0"]


@pytest.mark.parametrize("source", [CHAIN, MANY])
def test_a_large_graph_has_no_fold_with_too_many_parts(source: str):
    graph = whole(recorded(source))
    parts = [0] * len(graph.folds)
    for fold in graph.folds[1:]:
        parts[fold.parent] += 1
    for node in graph.nodes:
        parts[node.fold] += 1
    assert max(parts) <= CHILDREN and all(fold.parent < len(graph.folds) for fold in graph.folds)
    assert all(len(path_of(graph, node.fold)) < 9 for node in graph.nodes)


def test_stretches_say_of_what_they_are():
    graph = whole(recorded(CHAIN))
    assert len(graph.nodes) == 5002 and len(graph.edges) == 5001 and graph.left_out == 0 and NODES > 5002
    labels = {fold.label for fold in graph.folds}
    assert "node 1 to node 40" in labels and "node 1 to node 1,600" in labels
    assert all(fold.is_stretch == fold.label.startswith("node ") for fold in graph.folds)


def test_data_for_the_script_is_what_was_described():
    recording = recorded(MODULES)
    (data,) = Page(written(recording)).data["graph-data"]
    graph = whole(recording)
    assert [data["texts"][node[0]] for node in data["nodes"]] == [node.name for node in graph.nodes]
    assert [*zip(data["edges"][::2], data["edges"][1::2], strict=True)] == [*graph.edges]
    assert data["folds"] == [[fold.label, fold.parent, int(fold.is_stretch)] for fold in graph.folds]


def test_a_recording_gives_its_page():
    recording = recorded(MODULES)
    assert recording.to_html() == written(recording)


def test_the_page_needs_no_script_to_be_read():
    text = re.sub(r"<script.*?</script>", "", written(recorded(MODULES)), flags=re.DOTALL)
    shown = Page(text).shown
    assert "net.blocks.1.second.weight (leaf)" in shown and "line 20: loss.backward()" not in shown
    assert "peak at least" in shown and "8 of 8 received a gradient" in shown
