"""One call in the source that makes several calls of one torch function: counts and names."""

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.analysis.report_builder import build
from gradscope.recording import Recording
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
x = torch.ones(3, 4)
"""


def names_of_calls(recording: Recording, func: str) -> list[str]:
    """The names of what a function made, in the order of the run; empty for results without one."""
    names = BestNames(Index(recording))
    made_at, funcs = recording.tensors.column("op"), recording.ops.column("func")
    wanted = [tensor for tensor, op in enumerate(made_at) if op < len(funcs) and recording.text(funcs[op]) == func]
    return [names.of(tensor) if names.is_named(tensor) else "" for tensor in wanted]


def test_the_layers_of_a_call_in_a_loop_are_told_apart() -> None:
    source = HEAD + "for step in range(30):\n    out = model(x)\n"
    recording = recorded(source)
    assert names_of_calls(recording, "F.linear") == ["", "", "out"] * 30
    (row,) = [row for row in build(recording).lines if row.line == line_of(source, "out = model")]
    assert (row.name, row.shape, row.executions) == ("out", "(3, 2)", 30)


def test_the_graph_names_the_final_result_only() -> None:
    source = HEAD + "for step in range(5):\n    out = model(x)\n    loss = out.sum()\n    loss.backward()\n"
    report = build(recorded(source))
    (graph,) = report.graphs
    assert [row.tensor for row in graph.rows if row.name == "AddmmBackward0"] == ["out", "", ""]
    (row,) = [row for row in report.lines if row.line == line_of(source, "out = model")]
    assert row.executions == 5


def test_a_call_that_makes_one_result_a_run_keeps_its_name() -> None:
    recording = recorded(HEAD + "for step in range(30):\n    y = x * step\n")
    assert names_of_calls(recording, "Tensor.mul") == ["y"] * 30


def test_results_that_come_at_no_regular_distance_get_no_name_by_repetition() -> None:
    recording = recorded(HEAD + "for step in range(1, 6):\n    out = nn.Sequential(*[nn.ReLU()] * step)(x)\n")
    assert [len(name) for name in names_of_calls(recording, "F.relu")].count(0) == 10


def test_a_weaker_name_does_not_replace_the_one_given_at_birth() -> None:
    source = (
        HEAD
        + """
def show(value):
    return value + 1
for step in range(40):
    y = x * step
    show(y)
"""
    )
    assert names_of_calls(recorded(source), "Tensor.mul") == ["y"] * 40
