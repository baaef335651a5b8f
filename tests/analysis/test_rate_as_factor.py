"""Functions of a LambdaLR that return the learning rate, and those that return a factor."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from types import SimpleNamespace
from torch.optim.lr_scheduler import LambdaLR
base_lr, cfg = 0.1, SimpleNamespace(lr=0.01)
layer = torch.nn.Linear(3, 1)
{}
for step in range(4):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.step()
"""
MADE = "optimizer = torch.optim.SGD(layer.parameters(), lr={})\n"
DEF = "def warm(step):\n    {}\nschedule = LambdaLR(optimizer, lr_lambda=warm)"


def lines(body: str) -> list[int]:
    answers = build(recorded(PROGRAM.format(body))).answers
    return [one.causes[0].line for one in answers if one.code == "rate-as-factor"]


@pytest.mark.parametrize(
    "body",
    [
        MADE.format("base_lr") + "schedule = LambdaLR(optimizer, lambda step: 0.5 ** step * base_lr)  # here",
        MADE.format("cfg.lr") + DEF.format("return max(1e-5, cfg.lr * step / 10)  # here"),
        MADE.format("cfg.lr") + DEF.format("rate = cfg.lr * 0.9 ** step  # here\n    return rate"),
        "def plan(lr):\n    return lambda step: lr * 0.9 ** step  # here\n"
        + MADE.format("cfg.lr")
        + "schedule = LambdaLR(optimizer, plan(cfg.lr))",
    ],
)
def test_the_line_that_returns_the_rate_is_the_cause(body: str) -> None:
    assert lines(body) == [line_of(PROGRAM.format(body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        MADE.format("base_lr") + "schedule = LambdaLR(optimizer, lambda step: 0.5 ** step)",
        MADE.format("base_lr") + "min_lr = 0.01\nschedule = LambdaLR(optimizer, lambda step: min_lr / base_lr)",
        MADE.format("base_lr") + "schedule = LambdaLR(optimizer, lambda step: base_lr * 0.9 / base_lr)",
        MADE.format("1.0") + "schedule = LambdaLR(optimizer, lambda step: base_lr * 0.5 ** step)",
        "base_lr = 1.0\n"
        + MADE.format("base_lr")
        + "schedule = LambdaLR(optimizer, lambda step: base_lr * 0.5 ** step)",
        MADE.format("cfg.lr") + DEF.format("if step < 2:\n        return cfg.lr * step\n    return 1.0"),
        MADE.format("cfg.lr") + DEF.format("return 1.0 - cfg.lr * step"),
    ],
)
def test_what_is_a_factor_is_none(body: str) -> None:
    assert lines(body) == []
