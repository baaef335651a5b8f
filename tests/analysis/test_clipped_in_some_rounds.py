"""What clips in every so many rounds: a measure that scales is named, and what clips by what it finds is silent."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

LOOP = """
import math, torch
from torch import nn
torch.manual_seed(0)
LIMIT = 1.0; EVERY = 4
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.001)
norms = []
def norm(limit=LIMIT):
    return nn.utils.clip_grad_norm_(model.parameters(), {limit}).item()
def total():
    return math.hypot(*(p.grad.norm().item() for p in model.parameters()))
def fit(x, y):
    loss = (model(x) - y).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    return loss
x, y = torch.randn(8, 3), 20.0
for step in range({rounds}):
    fit(x, y)
    {each}
    optimizer.step()
"""
LOG = "if step % EVERY == 0: norms.append(norm())"


def lines(each: str, limit: str = "LIMIT", rounds: int = 10) -> list[int]:
    answers = build(recorded(LOOP.format(each=each, limit=limit, rounds=rounds))).answers
    return [cause.line for one in answers if one.code == "clipped-in-some-rounds" for cause in one.causes]


@pytest.mark.parametrize(
    ("each", "named"),
    [
        (LOG, [9, 20]),
        ("log_now = (step + 1) % 3 == 0\n    if log_now: norms.append(norm())", [9, 21]),
        ("if step % EVERY == 0: print(step, norm())", [9, 20]),
        ("norms.append(norm() if (step + 1) % 3 == 0 else None)", [9, 20]),
        ("step % 3 == 0 and norms.append(norm())", [9, 20]),
        ("def log(at):\n        if at % 4 == 0: norms.append(norm())\n    log(step)", [9, 22]),
        ("if step in (1, 4, 7): norms.append(norm())", [9, 20]),
        ("if step % 3 == 0: norms.append(nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5))", [20]),
    ],
)
def test_a_norm_for_the_log_that_scales_the_gradients_is_named(each: str, named: list[int]) -> None:
    assert lines(each) == named


@pytest.mark.parametrize(
    "each",
    [
        "norm()",
        "if step < 4: norm()",
        "if step > 4: norm()",
        "if step in (1, 2, 6): norm()",
        "norms.append(total() if step % 3 == 0 else None)",
        "if total() > LIMIT: norm()",
        "nn.utils.clip_grad_norm_(model.parameters(), 0.1 if step % 3 == 0 else 0.2)",
        "if step % 3 == 0: nn.utils.clip_grad_norm_(model.parameters(), 1.0, norm_type=1.0)",
        "nn.utils.clip_grad_value_(model.parameters(), 1.0); step % 3 == 0 and norms.append(norm())",
        "norm() if step % 3 == 0 else nn.utils.clip_grad_norm_(model.parameters(), 2.0)",
    ],
)
def test_what_clips_each_round_a_part_of_the_training_or_by_what_it_finds_is_fine(each: str) -> None:
    assert lines(each) == []


@pytest.mark.parametrize("limit", ["float('inf')", "math.inf", "1e6", "100.0"])
def test_so_is_a_limit_that_nothing_is_above(limit: str) -> None:
    assert lines(LOG, limit) == []


def test_norms_that_decide_are_no_rounds_that_are_counted() -> None:
    alternating = "y = 0.1 if step % 2 else 20.0\n    if total() > LIMIT: norm()"
    assert lines(alternating, limit="5.0", rounds=12) == []


def test_other_losses_that_are_not_clipped_are_other_rounds() -> None:
    clipped = "if step % 2 == 0: norm()"
    other = "if step % 2: optimizer.zero_grad(); (model(x).abs().mean() * 90 + 1).backward()"
    assert lines(f"{other}\n    {clipped}") == []
