"""A gradient asked for in vain and taken as zeros: the zero derivative behind it is no cause of its own."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

RESIDUAL = """
import torch
from torch import nn
net, scale = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)), nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Adam([*net.parameters(), scale], lr=1e-2)
def derivative(u, x):
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True, allow_unused=True)
    return {} if slope is None else slope
for step in range(6):
    points = torch.rand(10, 2, requires_grad=True)
    x, t = points[:, :1], points[:, 1:]  # views
    u = net(points)
    residual = derivative(u, t) + scale.exp() * derivative(u, x)
    loss = net(torch.rand(10, 2)).square().mean() + residual.{}.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("square", ["pow(2)", "square()"])
@pytest.mark.parametrize("zeros", ["torch.zeros_like(x)", "x.new_zeros(x.shape)"])
def test_only_the_view_is_the_cause(zeros: str, square: str) -> None:
    source = RESIDUAL.format(zeros, square)
    told = {one.code: one for one in build(recorded(source)).answers if one.severity != "note"}
    assert list(told) == ["grad-of-other-view"]
    assert told["grad-of-other-view"].causes[0].line == line_of(source, "# views")


def test_zeros_that_stand_for_no_gradient_leave_the_derivative_the_cause() -> None:
    source = RESIDUAL.format("torch.zeros_like(x)", "pow(2)")
    source = source.replace(
        "residual = derivative(u, t) + scale.exp() * derivative(u, x)", "residual = scale.exp() * 0.0"
    )
    assert "gradient-always-zero" in [one.code for one in build(recorded(source)).answers]
