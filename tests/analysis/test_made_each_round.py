"""Modules and parameters that a training loop makes anew in each round, and those that live so for a reason."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy, torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
class Weighted(nn.Module):
    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.zeros(1))
    def forward(self, a):
        return a * torch.exp(-self.s) + self.s
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc, self.inner = nn.Linear(8, 4), Inner()
    def forward(self, x):
        return self.inner(self.fc(x))
class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 1)
    def forward(self, x):
        return self.fc(x)
body, top = nn.Linear(4, 8), nn.Linear(8, 1)
optimizer = torch.optim.Adam([*body.parameters(), *top.parameters()], 1e-2)
x, y, kept = torch.randn(16, 4), torch.randn(16, 1), []
def error(out):
    return (out - y).pow(2).mean()
for step in range(6):
    {body}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    {after}
"""


def found(body: str, after: str = "pass") -> tuple[list[Answer], str]:
    source = PROGRAM.format(body=body.replace("\n", "\n    "), after=after)
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    return [answer for answer in build(recording).answers if answer.code == "layer-made-anew"], source


@pytest.mark.parametrize(
    "body",
    [
        "weighted = Weighted()  # made\nloss = weighted(error(top(body(x))))",
        "loss = Weighted()(error(top(body(x))))  # made",
        "s = nn.Parameter(torch.zeros(1))  # made\nloss = error(top(body(x))) * torch.exp(-s).squeeze() + s.squeeze()",
        "s = nn.Parameter(torch.rand(8))  # made\nloss = error(top(body(x) * s))",
        "head = nn.Linear(8, 1)  # made\nloss = error(head(body(x)))",
        "head = Head()  # made\nloss = error(head(body(x)))",
    ],
)
def test_the_line_that_makes_it_in_the_loop_is_the_cause(body: str) -> None:
    answers, source = found(body)
    assert answers
    for answer in answers:
        assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
        assert "6 times" in answer.text


@pytest.mark.parametrize(
    ("body", "after"),
    [
        # Trained by an optimizer that is made with it, or by hand.
        ("head = Head(); inner = torch.optim.SGD(head.parameters(), 0.1)\nloss = error(head(body(x)))", "inner.step()"),
        (
            "s = nn.Parameter(torch.zeros(1))\nloss = error(top(body(x))) * torch.exp(-s).squeeze()",
            "with torch.no_grad(): s -= 0.1 * s.grad",
        ),
        # Its gradient is what it is there for.
        ("delta = nn.Parameter(torch.zeros_like(x))\nloss = error(top(body(x + delta)))", "x = x + delta.grad.sign()"),
        # Frozen, or random to change the data.
        ("fixed = nn.Linear(8, 8).requires_grad_(False)\nloss = error(top(fixed(body(x))))", "pass"),
        ("blur = nn.Linear(4, 4)\nloss = error(top(body(blur(x))))", "pass"),
        # Made of what is trained: copies, adapted weights.
        ("twin = copy.deepcopy(top)\nloss = error(top(body(x))) + error(twin(body(x)))", "pass"),
        (
            "fast = nn.Parameter(top.weight.detach() * 0.9)\n"
            "loss = error(F.linear(body(x), fast)) + error(top(body(x)))",
            "pass",
        ),
        # Kept: an ensemble.
        ("kept.append(Head())\nloss = error(top(body(x))) + error(kept[-1](body(x)))", "pass"),
        # Made once.
        ("weighted = Weighted() if step == 0 else weighted\nloss = weighted(error(top(body(x))))", "pass"),
    ],
)
def test_what_is_trained_read_frozen_or_kept_is_not_told(body: str, after: str) -> None:
    assert found(body, after)[0] == []


def test_without_a_training_beside_it_nothing_is_told() -> None:
    source = """
import torch
for size in (2, 3, 4, 5):
    layer = torch.nn.Linear(size, 1)
    layer(torch.ones(1, size)).sum().backward()
"""
    assert [one for one in build(recorded(source)).answers if one.code == "layer-made-anew"] == []


def test_one_for_each_epoch_is_told_once_with_its_passes() -> None:
    body = "if step % 2 == 0:\n    weighted = Weighted()  # made\nloss = weighted(error(top(body(x))))"
    (answer,), source = found(body)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# made")]
    assert "gradients from 2 passes" in answer.text
    assert "never-stepped" not in {one.code for one in build(recorded(source)).answers}
