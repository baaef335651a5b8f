"""Gradients that are lost in a gate at its limit, and gates that let them through."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
class Gated(nn.Module):
    def __init__(self, bias):
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, 1)
        nn.init.constant_(self.gate.bias, bias)  # begins
    def forward(self, x):
        opened = torch.sigmoid(self.gate(x))  # gate
        return self.out(x.new_ones(8) + opened * self.value(x))
class Attends(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.q, self.k, self.v, self.scale = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), scale
    def forward(self, x):
        scores = self.q(x) @ self.k(x).transpose(-1, -2) * self.scale  # scores
        return (scores.softmax(-1) @ self.v(x)).mean(-1)  # softmax
def trained(model, rounds=24, by=1.0, shape=(16, 6)):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(rounds):
        x = torch.randn(shape)
        optimizer.zero_grad()
        (by * (model(x) - x.sum(-1)).pow(2).mean()).backward()
        optimizer.step()
"""


def said(program: str) -> list[list[int]]:
    answers = build(recorded(HEAD + program)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "gradient-vanishes"]


def test_a_gate_that_begins_shut() -> None:
    assert said("trained(Gated(-40.))") == [[line_of(HEAD, "# begins"), line_of(HEAD, "# gate")]]


def test_scores_that_are_far_too_large() -> None:
    lines = [line_of(HEAD, "# softmax"), line_of(HEAD, "# scores")]
    assert said("torch.manual_seed(0)\ntrained(Attends(3000.), shape=(4, 5, 6))") == [lines]


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("trained(Gated(0.))", id="a gate half open"),
        pytest.param("trained(Gated(-5.))", id="a gate that begins nearly shut"),
        pytest.param("trained(Attends(6 ** -0.5), shape=(4, 5, 6))", id="scores that are scaled"),
        pytest.param("trained(Gated(0.), by=1e-9)", id="a small loss"),
        pytest.param(
            "model = Gated(0.)\naside = nn.Sequential(nn.Linear(6, 1), nn.Sigmoid(), nn.Linear(1, 1))\n"
            "optimizer = torch.optim.SGD([*model.parameters(), *aside.parameters()], lr=0.01)\n"
            "for step in range(24):\n    x = torch.randn(16, 6)\n    optimizer.zero_grad()\n"
            "    (model(x).pow(2).mean() + 1e-9 * aside(x).pow(2).mean()).backward()\n    optimizer.step()",
            id="a term with a small factor",
        ),
        pytest.param(
            "net, head = nn.Sequential(nn.Linear(6, 4), nn.Sigmoid()), nn.Linear(6, 1)\n"
            "optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.01)\n"
            "for step in range(24):\n    x = torch.randn(16, 6)\n    optimizer.zero_grad()\n"
            "    (head(x).pow(2).mean() + 1e-9 * net(x).mean()).backward()\n    optimizer.step()",
            id="a gate that is the term with a small factor",
        ),
    ],
)
def test_gates_that_let_gradients_through(program: str) -> None:
    assert said(program) == []
