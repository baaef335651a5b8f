"""Losses of a multiplier beside the term that it is a weight of."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
net, scale = torch.nn.Linear(3, 1), torch.nn.Parameter(torch.tensor([0.5]))
first, second = torch.optim.SGD(net.parameters(), 0.1), torch.optim.SGD([scale], 0.1)
for step in range(2):
    size = net(torch.randn(8, 3)).relu().mean()
    FIRST
    first.zero_grad()
    second.zero_grad()
    loss.backward(retain_graph=True)
    BETWEEN
    (-torch.nn.functional.softplus(scale) * OTHER).sum().backward()
    AFTER
    second.step()
"""
FIRST = "loss = torch.nn.functional.softplus(scale).detach().sum() * size"


def lines(first: str = FIRST, between: str = "pass", other: str = "(size - 0.1)", after: str = "first.step()"):
    source = SOURCE.replace("FIRST", first).replace("BETWEEN", between).replace("OTHER", other).replace("AFTER", after)
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "multiplier-trains-factor" for cause in one.causes]


def test_two_passes_whose_gradients_one_step_takes_are_told():
    assert lines(first="loss = torch.nn.functional.softplus(scale).detach() * size") == [11]


def test_functions_are_methods():
    cut = "torch.mul(torch.detach(torch.nn.functional.softplus(scale)), size)"
    assert lines(first=f"loss = {cut}") == [11]


@pytest.mark.parametrize(
    "changed",
    [
        {"other": "(size - 0.1).detach()"},
        {"first": "loss = size"},
        {"between": "first.step()", "after": "first.zero_grad()"},
    ],
)
def test_what_is_detached_alone_or_cleared_before_the_step_is_fine(changed: dict[str, str]):
    assert lines(**changed) == []
