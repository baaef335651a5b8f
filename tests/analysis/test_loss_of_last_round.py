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


SCALES = """
import torch
import torch.nn.functional as F
from torch import nn

heads = nn.ModuleList(nn.Linear(4, 1) for _ in range(3))
other = nn.Linear(4, 4)
of_heads = torch.optim.Adam(heads.parameters(), lr=0.1)
of_other = torch.optim.Adam(other.parameters(), lr=0.1)

def compare(score, wanted):
    return F.mse_loss(score, torch.full_like(score, wanted))

def judge(scores, wanted, by=compare):
    loss = 0
    for score in scores:
        ROUND
    return RETURNED

for step in range(4):
    x = other(torch.randn(5, 4))
    of_heads.zero_grad()
    judge([head(x.detach()) for head in heads], 1.0).backward()
    of_heads.step()
    of_other.zero_grad()
    sum(compare(head(x), 0.0) for head in heads).backward()
    of_other.step()
"""


def of_scales(round: str, returned: str = "loss") -> tuple[str, list[tuple[str, list[int]]]]:
    source = SCALES.replace("ROUND", round).replace("RETURNED", returned)
    answers = [one for one in build(recorded(source)).answers if one.code in ("loss-of-last-round", "never-stepped")]
    return source, [(one.code, [cause.line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize(
    ("round", "returned"),
    [
        ("loss = compare(score, wanted)  # here", "loss"),
        ("loss = F.mse_loss(score, torch.full_like(score, wanted))  # here", "loss / 3"),
        ("total = by(score, wanted)\n        loss = total  # here\n        total = total + 0", "(loss / len(scores))"),
    ],
)
def test_a_function_that_returns_the_loss_of_its_last_round(round: str, returned: str) -> None:
    source, told = of_scales(round, returned)
    assert told == [("loss-of-last-round", [line_of(source, "# here")])]


@pytest.mark.parametrize(
    ("round", "returned"),
    [
        ("loss = loss + compare(score, wanted)", "loss"),
        ("loss = compare(score, wanted) + loss", "loss"),
        ("total = compare(score, wanted)\n        loss += total", "loss"),
        # (each round's loss goes on to the next, or to somewhere else)
        ("loss = compare(score + loss, wanted)", "loss"),
        ("loss = compare(score, wanted)\n        every.append(loss)", "loss + sum(every[:-1])"),
    ],
)
def test_a_function_whose_rounds_all_count_is_fine(round: str, returned: str) -> None:
    _, told = of_scales(f"every = [] if score is scores[0] else every\n        {round}", returned)
    assert told == []


def test_what_the_pass_before_a_step_does_not_reach_is_not_said_to_be_stepped_too_early() -> None:
    source = SCALES.replace("RETURNED", "loss").replace(
        "ROUND", "loss = compare(score, wanted) if isinstance(loss, int) else loss"
    )
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "never-stepped")
    assert "does not reach them" in answer.text
    assert [cause.line for cause in answer.causes] == [line_of(source, "for head in heads], 1.0).backward()")]
