"""Straight-through estimates that are taken away from their own input, and those that are used otherwise."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

RESIDUAL = """import torch
import torch.nn.functional as F
from torch import nn
encoder, tables = nn.Linear(4, 3), nn.ParameterList(torch.randn(5, 3) for _ in range(2))
z = encoder(torch.rand(6, 4))
rest, loss = z, 0.0
for table in tables:
    code = table[torch.cdist(rest.detach(), table.detach()).argmin(1)]
    estimate = rest + (code - rest).detach()
    loss = loss + estimate.sum() + (rest - code.detach()).pow(2).sum() + (code - rest.detach()).pow(2).sum()
    rest = rest - estimate  # here
loss.backward()
"""


def lines(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "estimate-subtracted"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("rest - estimate ", "torch.sub(rest, estimate) "),
        ("rest + (code - rest).detach()", "rest - (rest - code).detach()"),
        ("rest + (code - rest).detach()", "(code - rest).detach() + rest"),
        ("rest + (code - rest).detach()", "rest + (code - rest).data"),
        ("rest = rest - estimate ", "loss = loss + F.mse_loss(rest, estimate) "),
        ("rest = rest - estimate ", "loss = loss + (estimate - rest).pow(2).mean() "),
    ],
)
def test_the_difference_is_the_cause(old: str, new: str) -> None:
    source = RESIDUAL.replace(old, new)
    assert lines(source) == [[line_of(source, "# here")]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("rest - estimate ", "rest - estimate.detach() "),
        ("rest - estimate ", "rest.detach() - estimate "),
        ("rest - estimate ", "rest - code "),
        ("rest - estimate ", "2 * rest - estimate "),
        ("rest = rest - estimate ", "loss = loss + F.mse_loss(rest, code.detach()) "),
        ("rest = rest - estimate ", "error = rest - estimate "),  # no pass comes to it
        ("rest + (code - rest).detach()", "rest + (code - rest)"),
        ("rest + (code - rest).detach()", "rest.tanh() + (code - rest).detach()"),
    ],
)
def test_what_has_a_gradient_is_none(old: str, new: str) -> None:
    assert lines(RESIDUAL.replace(old, new)) == []
