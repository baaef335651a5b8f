"""A pass made for a derivative whose other gradients a step applied; and passes that are meant for both."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    x = torch.rand(5, 3, requires_grad=True)
    optimizer.zero_grad()
    energy = model(x)
    {derivative}
    {loss}
    loss.backward()
    optimizer.step()
"""
BACKWARD = "energy.sum().backward(create_graph=True)"
LOSS = "loss = energy.pow(2).mean() + x.grad.pow(2).mean()"


def causes(derivative: str, loss: str) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(derivative=derivative, loss=loss))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "derivative-left-in-grad"]


@pytest.mark.parametrize(
    ("derivative", "loss"),
    [
        (BACKWARD, LOSS),
        (BACKWARD, "loss = (energy - 1).abs().mean() + (-x.grad - 1).abs().mean()"),
        ("energy.backward(torch.ones(5, 1), create_graph=True)", LOSS),
    ],
)
def test_the_pass_for_the_derivative_comes_first(derivative: str, loss: str) -> None:
    source = PROGRAM.format(derivative=derivative, loss=loss)
    assert causes(derivative, loss) == [[line_of(source, derivative), line_of(source, "optimizer.step()")]]


@pytest.mark.parametrize(
    ("derivative", "loss"),
    [
        ("energy.sum().backward(create_graph=True, inputs=[x])", LOSS),
        (f"{BACKWARD}\n    optimizer.zero_grad()", LOSS),
        ("g = torch.autograd.grad(energy.sum(), x, create_graph=True)[0]", LOSS.replace("x.grad", "g")),
        ("first = energy.pow(2).mean(); first.backward(create_graph=True)", "loss = 0.1 * x.grad.pow(2).mean()"),
        (
            "first = energy.pow(2).mean(); first.backward(create_graph=True)",
            "loss = 0.1 * sum(p.grad.pow(2).sum() for p in model.parameters())",
        ),
    ],
    ids=["inputs", "cleared", "grad", "penalty", "penalty on the weights"],
)
def test_a_penalty_and_gradients_that_are_kept_out_are_left_alone(derivative: str, loss: str) -> None:
    assert causes(derivative, loss) == []
