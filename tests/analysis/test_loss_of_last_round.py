"""Losses of all rounds but the last that no pass comes to, and rounds of which the last one counts."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
optimizer = torch.optim.Adam(net.parameters())
scaler = torch.amp.GradScaler("cpu")
data = torch.randn(40, 3)

def compute(x):
    return nn.functional.mse_loss(net(x), x)

def fit(state=torch.zeros(1, 3)):
    total, best, losses = 0.0, None, []
    for xb in data.split(8):
        {rounds}
    {after}

for epoch in range(3):
    fit()
"""
STEP = "optimizer.zero_grad(); {}.backward(); optimizer.step()  # here"


def said(rounds: str, after: str = STEP.format("loss")) -> list[int]:
    source = PROGRAM.format(rounds=rounds, after=after)
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    answers = [one for one in build(recording).answers if one.code == "loss-of-last-round"]
    assert [one.causes[0].line for one in answers] in ([], [line_of(source, "# here")])
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("rounds", "after"),
    [
        ("loss = compute(xb)", STEP.format("loss")),
        ("pred = net(xb); loss = (pred - xb).abs().mean(); total += loss.item()", STEP.format("loss")),
        ("loss = compute(xb); losses.append(loss.detach())", STEP.format("(loss / 5)")),
        ("loss = compute(xb)", "scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()  # here"),
        (
            "loss = compute(xb); total = total + loss.detach()",
            "optimizer.zero_grad()\n    loss.backward()  # here\n    optimizer.step()",
        ),
    ],
)
def test_losses_that_only_the_last_round_leaves_are_seen(rounds: str, after: str) -> None:
    assert said(rounds, after)


@pytest.mark.parametrize(
    ("rounds", "after"),
    [
        ("loss = compute(xb); " + STEP.format("loss"), "pass"),
        ("loss = compute(xb); total = total + loss", STEP.format("total")),
        ("loss = compute(xb); losses.append(loss)", STEP.format("sum(losses)")),
        ("loss = compute(xb)\n        if best is None or loss < best: best = loss", STEP.format("best")),
        ("loss = compute(xb)\n        if loss < 0.1: break", STEP.format("loss")),
        ("state = net(xb + state[:1]); loss = state.pow(2).mean()", STEP.format("loss")),
        ("state = net(xb + state[:1]).detach(); loss = compute(state)", STEP.format("loss")),
        ("with torch.no_grad(): loss = compute(xb)", "loss = compute(data); " + STEP.format("loss")),
        (
            "with torch.no_grad(): compute(xb)\n        loss = compute(xb) if xb is data.split(8)[-1] else 0",
            "loss = compute(data)\n    " + STEP.format("loss"),
        ),
        ("loss = compute(data)", STEP.format("loss")),
        ("loss = compute(xb)", "loss.backward()  # here"),
    ],
)
def test_rounds_that_are_all_used_or_lead_to_the_last_one_are_none(rounds: str, after: str) -> None:
    assert said(rounds, after) == []
