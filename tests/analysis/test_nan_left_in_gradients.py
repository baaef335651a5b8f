"""NaN that stays in .grad where the step is skipped: told where it lasts, silent where it is cleared in time."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
def update():
    optimizer.step()
    optimizer.zero_grad()
def one(step):
    x = torch.randn(4, 3)
    if step == BAD:
        x[0] = float("nan")
    model(x).pow(2).mean().backward()
    if step % EVERY != EVERY - 1:
        return
    norm = nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    if torch.isfinite(norm):
        GOOD
    ALWAYS
for step in range(COUNT):
    one(step)
"""


def said(good: str, always: str = "pass", every: int = 1, bad: int = 4, count: int = 16) -> dict[str, list[int]]:
    source = LOOP.replace("GOOD", good).replace("ALWAYS", always).replace("EVERY", str(every))
    answers = build(recorded(source.replace("BAD", str(bad)).replace("COUNT", str(count)))).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.severity != "note"}


@pytest.mark.parametrize("every", [1, 2])
def test_the_clearing_that_is_skipped_is_named(every: int) -> None:
    inside = "optimizer.step(); optimizer.zero_grad()"
    assert said(inside, every=every) == {"nan-left-in-gradients": [line_of(LOOP, "GOOD")]}


def test_of_a_helper_the_call_is_named() -> None:
    assert said("update()") == {"nan-left-in-gradients": [line_of(LOOP, "GOOD")]}


@pytest.mark.parametrize(
    ("always", "every", "bad", "count"),
    [
        ("optimizer.zero_grad()", 1, 4, 16),
        ("optimizer.zero_grad()", 4, 8, 24),
        ("model.zero_grad()", 4, 20, 24),
    ],
)
def test_what_is_cleared_though_the_step_is_skipped_is_fine(always: str, every: int, bad: int, count: int) -> None:
    assert said("optimizer.step()", always, every, bad, count) == {}


def test_nan_in_the_last_round_is_no_lasting_one() -> None:
    assert said("optimizer.step(); optimizer.zero_grad()", every=4, bad=20, count=24) == {}
