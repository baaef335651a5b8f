"""A scheduler that begins again after a load, and those that go on or are meant to begin."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch.optim.lr_scheduler import *
net = torch.nn.Linear(4, 1)

def schedule(optimizer, last=-1):
    return {schedule}  # makes

def make(lr=0.1):
    return torch.optim.{optimizer}

def train(optimizer, scheduler, steps={steps}):
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()

optimizer = make()
first = optimizer.state_dict()
scheduler = schedule(optimizer)
train(optimizer, scheduler)
saved, count = optimizer.state_dict(), scheduler.state_dict()
{resume}
train(optimizer, scheduler, 3)
"""
USUAL = {
    "schedule": "LambdaLR(optimizer, lambda step: min(1, (step + 1) / 8))",
    "optimizer": "AdamW(net.parameters(), lr=lr)",
    "steps": "12",
    "resume": "optimizer = make(); scheduler = schedule(optimizer)\noptimizer.load_state_dict(saved)  # loads",
}
LATE = "optimizer = make(); optimizer.load_state_dict(saved)  # loads\nscheduler = schedule(optimizer)"


def said(**changed: str) -> list[int]:
    source = PROGRAM.format(**{**USUAL, **changed})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome
    answers = [one for one in build(recording).answers if one.code == "schedule-begins-anew"]
    assert not answers or [one.causes[0].line for one in answers] == [line_of(source, "# loads")]
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({}, 1),
        ({"schedule": "OneCycleLR(optimizer, max_lr=0.3, total_steps=20)"}, 1),
        ({"optimizer": "SGD(net.parameters(), lr=lr, momentum=0.9)"}, 1),
        ({"resume": LATE}, 2),
    ],
)
def test_the_load_without_the_schedulers_state_is_the_cause(changed: dict[str, str], lines: int) -> None:
    assert len(said(**changed)) == lines


EACH_EPOCH = PROGRAM.replace("        scheduler.step()", "        if _ % 4 == 3: scheduler.step()")
BOTH = "optimizer.load_state_dict(saved); scheduler.load_state_dict(count)  # loads"


@pytest.mark.parametrize(
    ("program", "schedule", "is_said"),
    [
        (PROGRAM, USUAL["schedule"], False),  # the first step only
        (EACH_EPOCH, USUAL["schedule"], True),
        (PROGRAM, "LinearLR(optimizer, 0.1, total_iters=9)", True),  # it is over, and leaves the rate as it is
    ],
)
def test_a_scheduler_that_is_made_after_the_load_sets_the_rate_whatever_state_it_is_given(
    program: str, schedule: str, is_said: bool
) -> None:
    late = LATE + "; scheduler.load_state_dict(count)"
    source = program.format(**{**USUAL, "schedule": schedule, "resume": late})
    found = [one for one in build(recorded(source)).answers if one.code == "schedule-begins-anew"]
    lines = [line_of(source, "# makes"), line_of(source, "# loads")]
    assert [[cause.line for cause in one.causes] for one in found] == ([lines] if is_said else [])
    early = {**USUAL, "schedule": schedule, "resume": f"optimizer = make(); scheduler = schedule(optimizer)\n{BOTH}"}
    assert not [one for one in build(recorded(program.format(**early))).answers if one.code == "schedule-begins-anew"]


@pytest.mark.parametrize(
    "changed",
    [
        {"resume": USUAL["resume"] + "\nscheduler.load_state_dict(count)"},
        {"resume": LATE + "; scheduler.load_state_dict(count)"},
        {"resume": LATE + "; scheduler.load_state_dict(count)", "schedule": "StepLR(optimizer, 5)"},
        {
            "resume": LATE.replace("schedule(optimizer)", "schedule(optimizer, 11)"),
            "schedule": "LambdaLR(optimizer, lambda step: 1 / (step + 1), last_epoch=last)",
        },
        {"resume": "optimizer = make(0.01); scheduler = schedule(optimizer)\noptimizer.load_state_dict(saved)"},
        {"resume": "optimizer.load_state_dict(first); scheduler = schedule(optimizer)"},
        {"resume": "optimizer.load_state_dict(saved)"},
        {"schedule": "StepLR(optimizer, 5)"},
        {"schedule": "ExponentialLR(optimizer, 0.5)"},
        {"schedule": "LambdaLR(optimizer, lambda step: 1.0)"},
    ],
)
def test_it_is_silent(changed: dict[str, str]) -> None:
    assert said(**changed) == []
