"""Masks of zeros and ones that are parameters and are trained."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
torch.manual_seed(0)
class Masked(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(o, i))
        {made}
    def forward(self, x):
        return {gives}
net = nn.Sequential(Masked(6, 8), nn.ReLU(), Masked(8, 2))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(4, 6)).pow(2).mean().backward()
    optimizer.step()
    {later}
"""
CUTS = "if step == 1:\n        for m in (net[0], net[2]): "
WEIGHT = "F.linear(x, self.weight * self.mask)"
LARGE = "(self.weight.detach().abs() > 0.2).float()"


def found(made: str, gives: str = WEIGHT, later: str = "pass") -> list[int]:
    answers = build(recorded(PROGRAM.format(made=made, gives=gives, later=later))).answers
    return [one.causes[0].line for one in answers if one.code == "mask-is-trained"]


@pytest.mark.parametrize(
    ("made", "gives", "later"),
    [
        (f"self.mask = nn.Parameter({LARGE})", WEIGHT, "pass"),
        (f"self.gate = nn.Parameter({LARGE})", WEIGHT.replace("mask", "gate"), "pass"),
        ("self.mask = nn.Parameter((torch.rand(o) > 0.5).float())", "F.linear(x, self.weight) * self.mask", "pass"),
        ("self.mask = nn.Parameter(torch.tril(torch.ones(o, i)))", WEIGHT, "pass"),
        ("self.mask = nn.Parameter(torch.bernoulli(torch.full((o, i), 0.5)))", WEIGHT, "pass"),
        ("self.mask = nn.Parameter(torch.ones(o, i))", WEIGHT, CUTS + "m.mask.data = (m.weight.abs() > 0.2).float()"),
        ("self.mask = nn.Parameter(torch.ones(o, i))", WEIGHT, CUTS + "m.mask.data *= m.weight.abs() > 0.2"),
        ("self.mask = nn.Parameter(torch.ones(o, i))", WEIGHT, CUTS + "m.mask.data[m.weight.abs() < 0.2] = 0"),
    ],
)
def test_the_line_that_makes_the_parameter_comes_first(made: str, gives: str, later: str) -> None:
    assert found(made, gives, later) == [line_of(PROGRAM.format(made=made, gives=gives, later=later), made)]


@pytest.mark.parametrize(
    ("made", "gives", "later"),
    [
        (f"self.mask = nn.Parameter({LARGE}, requires_grad=False)", WEIGHT, "pass"),
        (f"self.register_buffer('mask', {LARGE})", WEIGHT, "pass"),
        ("self.mask = nn.Parameter(torch.rand(o, i))", WEIGHT, "pass"),
        ("self.mask = nn.Parameter(torch.ones(o, i))", WEIGHT, "pass"),
        ("self.gate = nn.Parameter((torch.rand(o) > 0.5).float())", "F.linear(x, self.weight) * self.gate", "pass"),
        (
            "self.other = nn.Parameter(torch.rand(o, i))",
            WEIGHT.replace("mask", "other"),
            CUTS + "m.other.data *= m.weight > 0",
        ),
        (
            f"self.mask = nn.Parameter({LARGE})",
            WEIGHT,
            "for m in (net[0], net[2]): m.mask.data.copy_((m.weight.abs() > 0.2).float())",
        ),
    ],
)
def test_what_is_not_trained_or_no_mask_is_left_alone(made: str, gives: str, later: str) -> None:
    assert found(made, gives, later) == []
