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


@pytest.mark.parametrize(
    "away",
    ["a.add_(a - p, alpha=0.01)", "a.sub_((p - a) * 0.01)", "a.lerp_(p, -0.01)", "a.copy_(1.01 * a - 0.01 * p)"],
)
def test_an_average_that_moves_away_is_named(away: str) -> None:
    source = SOURCE.replace("a.mul_(0.01).add_(p, alpha=0.99)", away)
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "average-reversed")
    assert "away from net." in answer.text
    assert "by 0.01 of their difference" in answer.text
    assert [cause.line for cause in answer.causes] == [line_of(SOURCE, "# here")]


@pytest.mark.parametrize(
    "change",
    [
        "a.add_(p - a, alpha=0.01)",
        "a.sub_((a - p) * 0.01)",
        # (a step beyond a point is what momentum does, where that is what is stepped)
        "old = a.clone(); a.copy_(p); p.add_(p - old, alpha=0.1)",
        # (a way off the weights that is begun anew from them each time)
        "a.copy_(p); a.add_(torch.ones_like(a) - p, alpha=0.1)",
    ],
)
def test_what_moves_towards_the_weights_or_begins_at_them_is_fine(change: str) -> None:
    assert found(("a.mul_(0.01).add_(p, alpha=0.99)", change)) == []
