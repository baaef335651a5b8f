"""A helper that differentiates is one statement for the first derivative and for the second."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
def derivative(y, x):
    return torch.autograd.grad(y, x, torch.ones_like(y), create_graph=True)[0]
net = nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1))  # made
optimizer = torch.optim.Adam(net.parameters())
for step in range(6):
    t = torch.rand(16, 1, requires_grad=True)
    first = derivative(net(t), t)
    loss = LOSS
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(loss: str, activation: str) -> list[list[int]]:
    source = SOURCE.replace("LOSS", loss).replace("ReLU", activation)
    answers = [one for one in build(recorded(source)).answers if one.code == "second-derivative-zero"]
    return [[cause.line - line_of(source, "# made") for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    "loss", ["(derivative(first, t) + 1).pow(2).mean()", "(first + derivative(first, t)).pow(2).sum()"]
)
def test_the_second_is_told_from_the_first(loss: str) -> None:
    assert found(loss, "ReLU") == [[0]]


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        ("(derivative(first, t) + 1).pow(2).mean()", "Tanh"),
        ("(first - 1).pow(2).mean()", "ReLU"),
        ("(derivative(first * net(t), t) + 1).pow(2).mean()", "ReLU"),
    ],
)
def test_there_is_one_or_none_is_asked_for(loss: str, activation: str) -> None:
    assert found(loss, activation) == []
