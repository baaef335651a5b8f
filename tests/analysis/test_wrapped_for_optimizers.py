"""Optimizers that hold other parameters on the memory of those that are trained."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
{}
opt = torch.optim.Adam(groups, lr=0.1)
for step in range(4):
    opt.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    opt.step()
"""


def lines(groups: str) -> list[int]:
    answers = build(recorded(SOURCE.format(groups))).answers
    return [one.causes[0].line for one in answers if one.code == "never-stepped"]


@pytest.mark.parametrize(
    "groups",
    [
        "groups = [torch.nn.Parameter(p.data) for p in net.parameters()]",
        "groups = [torch.nn.Parameter(p.detach()) for p in net.parameters()]",
    ],
)
def test_the_line_that_wraps_is_named_first(groups: str) -> None:
    assert lines(groups) == [3]


def test_the_parameters_themselves_are_fine() -> None:
    assert lines("groups = [torch.nn.Parameter(p.data) for p in net.parameters()]; groups = net.parameters()") == []
