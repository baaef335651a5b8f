"""Averages that take nearly all of the new weights in each run."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy
import torch
from torch import nn
net = nn.Linear(3, 1)
average = copy.deepcopy(net)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for a, p in zip(average.parameters(), net.parameters()):
            a.mul_(0.01).add_(p, alpha=0.99)  # here
"""
FROZEN = ("copy.deepcopy(net)", "copy.deepcopy(net).requires_grad_(False)")


def found(*changes: tuple[str, str]) -> list[int]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    return [one.causes[0].line for one in build(recorded(source)).answers if one.code == "average-reversed"]


@pytest.mark.parametrize(
    "changes",
    [(), (FROZEN,), (("a.mul_(0.01).add_(p, alpha=0.99)", "a.lerp_(p, 0.99)"),)],
    ids=["requires grad", "frozen", "lerp"],
)
def test_the_mixing_line_is_named(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == [line_of(SOURCE, "# here")]


@pytest.mark.parametrize(
    "changes",
    [
        (("a.mul_(0.01).add_(p, alpha=0.99)", "a.mul_(0.99).add_(p, alpha=0.01)"),),
        (FROZEN, ("a.mul_(0.01).add_(p, alpha=0.99)", "a.mul_(0.99).add_(p, alpha=0.01)")),
        (("a.mul_(0.01).add_(p, alpha=0.99)", "a.copy_(p)"),),
    ],
    ids=["average", "frozen average", "copy"],
)
def test_an_average_is_fine(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == []
