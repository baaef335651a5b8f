"""``--nan``: the op and the node in which a NaN or an infinity is born, and nothing of ours is left behind."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
import torch

from gradscope.analysis.report_builder import build
from gradscope.recorder.session import Recorder
from gradscope.recorder.state import births
from gradscope.recording import Recording
from gradscope.recording.rows import EventKind
from tests.analysis.building import recorded


def details(recording: Recording) -> list[tuple[int, dict[str, Any]]]:
    events = (event for event in recording.events if event.kind == EventKind.VALUES)
    return [(event.subject, json.loads(recording.text(event.detail))) for event in events]


def born(recording: Recording) -> list[str]:
    return [recording.text(recording.ops[op].func) for op, detail in details(recording) if "born" in detail]


def test_an_op_whose_inputs_are_finite_gives_birth_and_those_after_it_do_not() -> None:
    recording = recorded(
        """
    import torch
    x = torch.tensor([0.0, 1.0])
    y = x.log()
    z = y * 2 + x
    z.add_(1)
    w = torch.ones(2)
    w.div_(0)
    w.add_(1)
    v = w - w
    u = v + 1
    """,
        nan=True,
    )
    assert born(recording) == ["Tensor.log", "Tensor.div_", "Tensor.sub"]


def test_without_being_asked_no_op_is_looked_at() -> None:
    assert not born(recorded("import torch\ntorch.zeros(1).log()"))


def test_a_line_that_gives_birth_all_the_time_is_noted_a_few_times() -> None:
    recording = recorded("import torch\nfor _ in range(20):\n    torch.zeros(2).log()", nan=True)
    assert len(born(recording)) == 3


LATE = """
import torch
class Spoil(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()
    @staticmethod
    def backward(ctx, gradient):
        return gradient / 0
w = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(8):
    optimizer.zero_grad()
    h = w * 2
    if step == 5:
        h = Spoil.apply(h)
    h.sum().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("nan", [True, False])
def test_the_node_of_a_function_is_named_that_spoils_a_gradient(nan: bool) -> None:
    recording = recorded(LATE, nan=nan)
    nodes = [node for _, detail in details(recording) for node in detail.get("nodes", ())]
    assert [recording.text(recording.nodes[node].name) for node in nodes] == ["SpoilBackward"]
    (answer,) = (one for one in build(recording).answers if one.code == "gradient-not-finite")
    assert [cause.line for cause in answer.causes] == [7, 15]  # its backward, and where it is applied
    assert "backward pass 6" in answer.text


@pytest.mark.parametrize(
    ("line", "after"),
    [("return gradient / 0", "(h / 0 * 0)"), ("return gradient * 3", "h.sqrt()")],
    ids=["given what is not finite", "hands it on"],
)
def test_a_function_that_is_given_what_is_not_finite_is_not_named(line: str, after: str) -> None:
    source = (
        LATE.replace("return gradient / 0", line).replace("h.sum()", f"{after}.sum()").replace("h = w * 2", "h = w * 0")
    )
    report = build(recorded(source))
    assert not any("the backward of Spoil" in answer.text for answer in report.answers)


@pytest.mark.parametrize("raises", [False, True])
def test_no_hook_is_left_in_a_graph_that_lives_on(raises: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    w = torch.ones(2, requires_grad=True)
    h = w * 2
    loss = h.sum()
    looked: list[object] = []
    monkeypatch.setattr(births, "_worst", lambda ranges: looked.append(ranges))
    fails = [raises]

    def fail(gradient: torch.Tensor) -> None:
        if fails.pop():
            raise ValueError

    h.register_hook(fail)
    with Recorder(is_user=lambda name: name == __file__, nan=True) as recorder, suppress(ValueError):
        (w * 2).sum()
        loss.backward(retain_graph=True)
    assert not recorder.recording.faults
    assert looked and not fails
    looked.clear()
    fails.append(False)
    loss.backward()
    assert not looked


PROGRAM = """
import torch
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.5), torch.nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(6, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()
result = [p.tolist() for p in model.parameters()] + [p.grad._version for p in model.parameters()] + [loss.item()]
"""


def test_the_program_computes_the_same() -> None:
    def result(run: Any) -> Any:
        names: dict[str, Any] = {}
        run(PROGRAM, names)
        return names["result"]

    def watched(source: str, names: dict[str, Any]) -> None:
        with Recorder(is_user=lambda name: name == "<string>", nan=True) as recorder:
            exec(source, names)
        assert not recorder.recording.faults

    assert result(watched) == result(exec)
