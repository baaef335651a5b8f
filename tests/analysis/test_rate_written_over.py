"""Learning rates that are written by hand, and that a scheduler overwrites when it steps next."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TRAINING = """
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR, SequentialLR, StepLR
body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
body.requires_grad_(False)
optimizer = torch.optim.AdamW([{"params": head.parameters()}, {"params": body.parameters(), "lr": 0.0}], lr=0.1)
schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 16))
def unfreeze():
    body.requires_grad_(True)
    optimizer.param_groups[1]["lr"] = 0.01  # written
def train():
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).pow(2).sum().backward()
    optimizer.step()
for step in range(16):
    if step == 4:
        unfreeze()
    train()
    schedule.step()  # steps
"""
WRITTEN = 'optimizer.param_groups[1]["lr"] = 0.01  # written'
MADE = "schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 16))"
ZERO = '"lr": 0.0}'


def told(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "rate-written-over"]
    return [[cause.line for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (WRITTEN, WRITTEN),
        (ZERO, '"lr": 0}'),
        (WRITTEN, 'group = optimizer.param_groups[-1]\n    group["lr"] = 0.01  # written'),
        (WRITTEN, 'for one in optimizer.param_groups: one["lr"] = 0.3  # written'),
        (ZERO, '"lr": 1e-6}'),  # the rate of the beginning is another one, if not zero
        (MADE, "schedule = OneCycleLR(optimizer, max_lr=[0.1, 1e-6], total_steps=40)"),
        (MADE, MADE + "\nschedule = SequentialLR(optimizer, [schedule, StepLR(optimizer, 3)], [30])"),
    ],
    ids=["number", "whole", "kept", "all", "small", "one cycle", "sequential"],
)
def test_a_rate_that_is_overwritten_is_told_of(old: str, new: str) -> None:
    source = TRAINING.replace(old, new)
    assert told(source) == [[line_of(source, "# written"), line_of(source, "# steps")]]


def test_so_is_one_that_holds_for_an_epoch() -> None:
    source = TRAINING.replace("    train()\n", "    train()\n    train()\n    train()\n")
    assert told(source) == [[line_of(source, "# written"), line_of(source, "# steps")]]
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "rate-written-over")
    assert "sets 0 there" in answer.text
    assert "the 33 steps since go by the scheduler's rates" in answer.text


def test_a_new_scheduler_that_goes_by_the_rate_of_the_beginning_is_told_of() -> None:
    source = TRAINING.replace(WRITTEN, WRITTEN + "\n    global schedule\n    " + MADE + "  # made")
    assert told(source) == [[line_of(source, "# written"), line_of(source, "# made")]]
    source = source.replace("# written", "\n    optimizer.param_groups[1]['initial_lr'] = 0.01")
    assert told(source) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (WRITTEN, WRITTEN + "\n    schedule.base_lrs[1] = 0.01"),
        (WRITTEN, "schedule.base_lrs[1] = 0.01"),
        (WRITTEN, WRITTEN + "\n    train()\n    global schedule\n    " + MADE),
        (MADE, "schedule = StepLR(optimizer, 3)"),  # goes on from the rate that is there
        (MADE, "schedule = CosineAnnealingLR(optimizer, 40)"),
        ("if step == 4:", "if step >= 4:"),  # written before each step: all of them go by it
        ("if step == 4:", "if step in (4, 8):"),
        ("if step == 4:", "if step == 15:"),  # no steps after it
        ("    schedule.step()  # steps", "    if step < 4:\n        schedule.step()"),  # the scheduler is done with
        (WRITTEN, WRITTEN.replace("0.01", "0.0")),
        (WRITTEN, "optimizer.load_state_dict(saved)"),
    ],
    ids=["both", "base", "another part", "steps", "cosine", "each step", "twice", "the end", "done", "zero", "loaded"],
)
def test_rates_that_hold_or_are_written_again_are_fine(old: str, new: str) -> None:
    source = TRAINING.replace(old, new)
    assert source != TRAINING
    if "saved" in new:
        source = source.replace(MADE, "saved = optimizer.state_dict()\nsaved['param_groups'][1]['lr'] = 0.5\n" + MADE)
    assert told(source) == []


def test_a_warm_up_by_hand_beside_a_schedule_of_epochs_is_fine() -> None:
    source = """
import torch
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9 ** epoch)
for epoch in range(4):
    for batch in range(6):
        if epoch == 0:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 * (batch + 1) / 8
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
    schedule.step()
"""
    assert told(source) == []
