"""Losses over all pairs of two tensors, by their shapes alone; and pairs that are meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
layer, side = torch.nn.Linear(3, 1), torch.nn.Linear(3, 2)
weights = torch.ones(6, requires_grad=True)
x, y, masks = torch.rand(6, 3), torch.rand(6), torch.ones(6, 6)
out = layer(x)
{}
loss.backward()
"""


def lines(body: str) -> list[int]:
    answers = build(recorded(PROGRAM.format(body))).answers
    return [one.causes[0].line for one in answers if one.code == "paired-by-broadcast"]


@pytest.mark.parametrize(
    "body",
    [
        "error = y - out  # here\nsmall = error.abs().clamp(max=1)\nloss = (small.pow(2) + error.abs() - small).mean()",
        "loss = (out.sigmoid() * y).sum()  # here",
        "chosen = side(x).gather(1, torch.zeros(6, 1, dtype=torch.long))\nloss = ((chosen - y) ** 2).mean()  # here",
        "loss = F.mse_loss(out, y)  # here",
        "loss = -torch.min(y.exp() * out, y.exp().clamp(0.9, 1.1) * out).mean()  # here",
        "loss = F.smooth_l1_loss(out, y, reduction='none').mean()  # here",
        "loss = torch.exp(out - y).pow(2).mean()  # here",
        "loss = torch.log1p((out - y) ** 2).mean()  # here",
        "gap = out - y  # here\nloss = (gap * gap).mean()",
        "loss = F.mse_loss(out, y) + (out - out.T).abs().mean()  # here",
    ],
)
def test_the_line_that_pairs_is_the_cause(body: str) -> None:
    assert lines(body) == [line_of(PROGRAM.format(body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        "loss = (out.squeeze(1) - y).pow(2).mean()",
        "loss = (out - y[:, None]).pow(2).mean()",
        "loss = (out - out.squeeze(1)).abs().mean()",
        "loss = (out.squeeze(1).unsqueeze(1) - y).abs().mean()",
        "loss = ((out - y) * masks).mean()",
        "loss = torch.min((out - y).abs(), masks).mean()",
        "loss = torch.min(out * y, side(x)[:, :1] * y).mean()",
        "loss = ((out + y).softmax(1) @ x).sum()",
        "loss = (out - y).mean(1).max()",
        "loss = (side(x).sum(1, keepdim=True) + y).mean()",
        "loss = (out * weights).sum()",
        "loss = ((out - y).detach().mean() + out.mean())",
        "loss = (-((out - y) ** 2) / 2).exp().mean()",
        "gap = out - y\nloss = torch.exp(-0.5 * gap * gap).mean()",
        "loss = (-(out - y).abs() / 0.3).exp().mean()",
        "loss = ((1 + (out - y) ** 2) ** -1).mean()",
        "loss = 2 * (out - y).abs().mean() - (out - out.squeeze(1)).abs().mean() - (y[:, None] - y).abs().mean()",
        "loss = 2 * (out - y).abs().mean() - (out - out.T).abs().mean() - (y[:, None] - y).abs().mean()",
    ],
)
def test_pairs_that_are_meant_are_none(body: str) -> None:
    assert lines(body) == []
