"""Long graphs are folded by the modules that made their nodes."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.report.run.run_screen import render
from tests.analysis.building import recorded

PROGRAM = """\
import torch
from torch import nn
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return x + self.two(self.one(x).relu().exp().sin().cos())
model = nn.Sequential(*[Block() for _ in range({blocks})], nn.Linear(4, 1))
for step in range(3):
    loss = model(torch.ones(2, 4)).sum()
    model.zero_grad()
    loss.backward()
"""


def test_each_module_is_one_row_also_of_a_later_pass():
    recording = recorded(PROGRAM.format(blocks=12))
    (graph,) = build(recording).graphs
    assert graph.nodes > 100 and graph.executions == 3
    folded = [row for row in graph.rows if row.folded]
    assert [row.summary.split(",")[0] for row in folded] == [
        "model.12 (Linear)",
        *(f"model.{number} (Block)" for number in reversed(range(12))),
    ]
    assert sum(row.folded or 1 for row in graph.rows) == graph.nodes
    assert "line 8, 4 leaves" in folded[1].summary
    assert not any(row.folded and "Block" in row.summary for row in build(recording, RunView(all=True)).graphs[0].rows)


def test_a_short_graph_is_not_folded():
    (graph,) = build(recorded(PROGRAM.format(blocks=3))).graphs
    assert not any("Block" in row.summary for row in graph.rows)


def test_no_line_of_a_deep_graph_is_branches_only():
    deep = "import torch\nw = x = torch.ones(2, requires_grad=True)\nfor _ in range(30):\n    x = x * w.exp()\nx.sum()"
    report = build(recorded(deep + ".backward()\n"), RunView(graph=True))
    stream = StringIO()
    render(report, Console(file=stream, width=80), RunView(graph=True, width=80))
    rows = [line for line in stream.getvalue().splitlines() if "─ " in line]
    assert len(rows) > 30
    assert all(any(letter.isalpha() for letter in row) for row in rows)
    assert max(map(len, rows)) <= 80
