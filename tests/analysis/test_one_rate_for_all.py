"""Schedulers that give all groups one learning rate, where these were given different ones."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

STAGE = """import torch
from torch import nn
from torch.optim import lr_scheduler
body, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD(
    [{"params": body.parameters(), "lr": 0.0}, {"params": head.parameters(), "lr": 0.1}], momentum=0.9)
schedule = lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)
for step in range(6):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).pow(2).mean().backward()
    optimizer.step()
    schedule.step()
"""
MAKES = "lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=6)"


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "one-rate-for-all" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ('"lr": 0.0', '"lr": 0.001'),
        (MAKES, "lr_scheduler.CyclicLR(optimizer, base_lr=0.01, max_lr=0.1)"),
        ('[{"params": body.parameters(), "lr": 0.0}', '[{"params": body.parameters(), "lr": 0, "weight_decay": 0.1}'),
    ],
)
def test_the_line_that_makes_the_scheduler(old: str, new: str) -> None:
    source = STAGE.replace(old, new)
    assert lines(source) == [line_of(source, "schedule = ")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_lr=0.1", "max_lr=[0.0, 0.1]"),
        ("max_lr=0.1", "max_lr=[0.1, 0.1]"),  # by the text for each
        ("for step", "optimizer.param_groups[0]['lr'] = 0.0\nfor step"),  # by hand since
        ('"lr": 0.0', '"lr": 0.1'),
        (', "lr": 0.1}], momentum', "}], lr=0.0, momentum"),  # no group was to differ
        (MAKES, "lr_scheduler.StepLR(optimizer, 2)"),
        (MAKES, "lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))"),
        ("optimizer.step()\n", "pass\n"),
    ],
)
def test_rates_that_are_kept_or_were_one_are_none(old: str, new: str) -> None:
    assert old in STAGE
    assert lines(STAGE.replace(old, new)) == []
