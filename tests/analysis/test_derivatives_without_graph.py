"""Derivatives that are constants where they are added to what the same parameters are trained by."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.autograd.functional import jacobian, jvp, vjp
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def f(s):
    return net(s).sum()
for step in range(2):
    t = torch.rand(5, 1, requires_grad=True)
    u = net(t)
    {derivative}
    {loss}
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
RESIDUAL = "loss = (d - 2 * u).pow(2).mean()"


def found(derivative: str, loss: str = RESIDUAL) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(derivative=derivative, loss=loss))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "derivative-without-graph"]


@pytest.mark.parametrize(
    "derivative",
    [
        "d = jacobian(f, t)",
        "d = jacobian(f, t, vectorize=True).view(-1, 1)",
        "_, d = jvp(net, t, torch.ones(5, 1))",
        "_, d = vjp(net, t, torch.ones(5, 1))",
        "(d,) = torch.autograd.grad(u.sum(), t, retain_graph=True)",
    ],
)
@pytest.mark.parametrize("loss", [RESIDUAL, "loss = (torch.sin(u) + d[:, :1]).pow(2).mean()"])
def test_the_call_that_computed_it_comes_first(derivative: str, loss: str) -> None:
    source = PROGRAM.format(derivative=derivative, loss=loss)
    assert found(derivative, loss) == [[line_of(source, derivative), line_of(source, loss)]]


@pytest.mark.parametrize(
    ("derivative", "loss"),
    [
        ("d = jacobian(f, t, create_graph=True)", RESIDUAL),
        ("d = jacobian(f, t).detach()", RESIDUAL),
        ("with torch.no_grad():\n        d = jacobian(f, t)", RESIDUAL),
        ("d = jacobian(f, t)", "loss = F.mse_loss(u, t.detach()) / (1 + d.abs().mean())"),
        ("d = jacobian(f, t)", "loss = F.mse_loss(u, d)"),
        ("d = jacobian(f, t)", "loss = net(t + 0.1 * d.sign()).pow(2).mean()"),
        ("d = jacobian(f, t)", "loss = net(t - 0.1 * d).pow(2).mean()"),
        ("d = jacobian(f, t)", "loss = u.pow(2).mean(); print((u + d).sum().item())"),
        ("d = jacobian(lambda s: s.pow(2).sum(), t)", RESIDUAL),
    ],
)
def test_what_has_a_graph_or_is_meant_as_a_constant_is_left_alone(derivative: str, loss: str) -> None:
    assert found(derivative, loss) == []


def test_a_term_of_a_loss_is_told_once() -> None:
    source = PROGRAM.format(derivative="d = jacobian(f, t)", loss="loss = u.pow(2).mean() + d.pow(2).sum()")
    codes = [one.code for one in build(recorded(source)).answers]
    assert "term-without-gradient" in codes
    assert "derivative-without-graph" not in codes
