"""Rows of nodes by number: what repeats is kept once, and every number is found as if all were kept."""

from array import array

import pytest

import gradscope
from gradscope.recorder.repetition import forgetting
from gradscope.recorder.state.graph_nodes import GraphNodes
from gradscope.recorder.state.moves import Move
from gradscope.recorder.state.node_numbers import OlderNumbers
from gradscope.recording.tables import NONE
from tests.analysis.building import recorded

TRAINING = """
    import torch
    from torch import nn
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    kept = []
    for step in range(900):
        loss = net(torch.ones(2, 4)).sum()
        optimizer.zero_grad()
        if step == 450:
            kept.append(net(torch.ones(2, 4)).exp())
        loss.backward()
        optimizer.step()
    (kept[0].sum() + net(torch.ones(2, 4)).sum()).backward()
"""


@pytest.mark.parametrize(
    "chunks",
    [
        [[1, 2, 3] * 8],
        [[9, 8, 7, *[1, 2, 3] * 8], [1, 2, 3] * 2, [4, 5, 6] * 5],
        [[NONE, 4] * 6, [4, NONE]],
        [[5, 6], [7], [7] * 9, [NONE] * 5],
        [list(range(40))],
    ],
)
def test_each_number_has_the_row_that_was_added(chunks: list[list[int]]):
    older, start, expected = OlderNumbers(), 100, list[int]()
    for rows in chunks:
        older.add(start + len(expected), array("i", rows))
        expected += rows
    assert [older.row(start + at) for at in range(len(expected))] == expected
    assert (older.row(start - 1), older.row(start + len(expected))) == (NONE, NONE)


def test_what_is_kept_once_moves_as_one():
    older = OlderNumbers()
    older.add(0, array("i", [10, 11] * 50))
    older.move(Move(4, 8, 4))
    assert [older.row(number) for number in range(100)] == [6, 7] * 50


def test_the_numbers_of_a_long_loop_take_no_memory(monkeypatch: pytest.MonkeyPatch):
    """What is kept of the loop is found again: a graph of its middle runs backward at the end."""
    graphs = list[GraphNodes]()
    make = GraphNodes.__init__

    def noted(graph: GraphNodes, *arguments: object) -> None:
        graphs.append(graph)
        make(graph, *arguments)

    for name, number in (("FROM_BYTES", 100_000), ("EVERY", 256)):
        monkeypatch.setattr(forgetting, name, number)
    monkeypatch.setattr(gradscope.recorder.tape, "FLUSH_OPS", 256)
    monkeypatch.setattr(GraphNodes, "__init__", noted)
    recording = recorded(TRAINING)
    (numbered,) = graphs[0]._of_threads.values()
    kept = len(numbered.rows) + sum(map(len, numbered.older._rows))
    assert len(recording.alike)
    assert kept + 1000 < numbered.first + len(numbered.rows) - numbered.begun
    exps = [row for row, node in enumerate(recording.nodes) if recording.strings[node.name] == "ExpBackward0"]
    sums = [row for row, node in enumerate(recording.nodes) if recording.strings[node.name] == "SumBackward0"]
    edges = {(edge.node, edge.next) for edge in recording.edges}
    assert len(exps) == 1
    assert any((one, exps[0]) in edges for one in sums)
