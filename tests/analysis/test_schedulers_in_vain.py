"""Schedulers that change nothing, and rates that have fallen to next to nothing."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
layer = torch.nn.Linear(3, 1)
optim, lr_scheduler = torch.optim, torch.optim.lr_scheduler
optimizer = optim.SGD(layer.parameters(), lr=0.1)
def step():
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
CODES = ("scheduler-in-vain", "learning-rate-zero")


def said(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "s = lr_scheduler.ExponentialLR(optimizer, 0.9)\noptimizer = optim.Adam(layer.parameters())\n"
            "for i in range(4): step(); s.step()",
            ("scheduler-in-vain", [9, 10]),
        ),
        ("s = lr_scheduler.StepLR(optimizer, 5)\nfor i in range(12): step()", ("scheduler-in-vain", [9])),
        (
            "s = lr_scheduler.ExponentialLR(optimizer, 0.01)\nfor i in range(12): step(); s.step()",
            ("learning-rate-zero", [10, 9]),
        ),
        (
            "s = lr_scheduler.LambdaLR(optimizer, lambda i: min(1, i // 6))\nfor i in range(9): step(); s.step()",
            ("learning-rate-zero", [9]),
        ),
    ],
)
def test_the_line_to_change_is_the_cause(source: str, expected: tuple[str, list[int]]) -> None:
    assert said(source) == [expected]


@pytest.mark.parametrize(
    "source",
    [
        "s = lr_scheduler.ExponentialLR(optimizer, 0.9)\nfor i in range(12): step(); s.step()",
        "s = lr_scheduler.StepLR(optimizer, 5)\nfor i in range(12): step()\nif i < 3: s.step()",
        "s = lr_scheduler.StepLR(optimizer, 5)\nfor i in range(4): step()",
        # whose of the two these steps are is not seen
        "other = optim.SGD(layer.parameters(), lr=0.1)\ns = lr_scheduler.StepLR(other, 5)\n"
        "for i in range(12):\n    step()\n    if i < 3: other.step()",
        "a, b = lr_scheduler.ConstantLR(optimizer), lr_scheduler.ExponentialLR(optimizer, 0.9)\n"
        "s = lr_scheduler.SequentialLR(optimizer, [a, b], [50])\nfor i in range(12): step(); s.step()",
        "s = lr_scheduler.LambdaLR(optimizer, lambda i: i // 2 * 0.1)\nfor i in range(9): step(); s.step()",
        "s = lr_scheduler.ExponentialLR(optimizer, 0.1)\nfor i in range(9): step(); s.step()",
    ],
)
def test_schedules_that_set_the_rate_are_none(source: str) -> None:
    assert said(source) == []


REPLACED = """\
schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)
for epoch in range(8):
    if epoch == 3:
        optimizer = optim.SGD(layer.parameters(), lr=0.05)
    step()
    schedule.step()
"""
FACTORY = """\
def make(rate):
    return optim.SGD(layer.parameters(), lr=rate)
"""


def test_a_scheduler_that_goes_on_with_the_optimizer_before() -> None:
    assert said(REPLACED) == [("scheduler-in-vain", [12, 9])]
    made = REPLACED.replace("optim.SGD(layer.parameters(), lr=0.05)", "make(0.05)")
    assert said(FACTORY + made) == [("scheduler-in-vain", [14, 11])]
    named = FACTORY.replace("return", "made =") + "    return made\n"
    assert said(named + made) == [("scheduler-in-vain", [15, 12])]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # a scheduler of its own; the old one back again; turns; other parameters; only the rate is another
        ("    step()", "        schedule = lr_scheduler.ExponentialLR(optimizer, 0.9)\n    step()"),
        ("    step()", "        s = lr_scheduler.ConstantLR(optimizer)\n    step()"),
        (
            "    if epoch == 3:",
            "    first = locals().get('first', optimizer)\n    if epoch == 6: optimizer = first\n    if epoch == 3:",
        ),
        ("    step()", "    first = locals().get('first', optimizer)\n    first.step()\n    step()"),
        ("optim.SGD(layer.parameters(), lr=0.05)", "optim.SGD(torch.nn.Linear(3, 1).parameters(), lr=0.05)"),
        (
            "optimizer = optim.SGD(layer.parameters(), lr=0.05)",
            "optimizer.add_param_group({'params': [torch.ones(1)]})",
        ),
        ("    step()\n", "    if epoch < 3 or epoch % 4 == 3: step()\n"),
    ],
)
def test_optimizers_that_take_turns_are_no_finding(old: str, new: str) -> None:
    assert said(REPLACED.replace(old, new)) == []


ROUNDS = """\
schedule = lr_scheduler.StepLR(optimizer, 3)  # made
def follow():  # follow
    schedule.step()
for epoch in range(6):
    for i in range(3):
        step()
    UPDATE
"""


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.severity, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


def test_a_step_that_is_never_reached() -> None:
    line, when = line_of(HEAD + ROUNDS, "# made"), line_of(HEAD + ROUNDS, "UPDATE")
    assert told(ROUNDS.replace("UPDATE", "pass")) == [("warning", [line + 1, line])]
    assert told(ROUNDS.replace("UPDATE", "if epoch > 10: follow()")) == [("warning", [when, line])]
    assert told(ROUNDS.replace("UPDATE", "if epoch % 10 == 9: follow()")) == [("note", [when])]
    assert told(ROUNDS.replace("UPDATE", "if layer.bias is None: follow()")) == []  # a setting
    assert told(ROUNDS.replace("UPDATE", "follow()")) == []


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ("lr_scheduler.StepLR(optimizer, 3)", ["scheduler-in-vain"]),
        ("lr_scheduler.LambdaLR(optimizer, lambda i: 0.9 ** i)", ["scheduler-in-vain"]),
        ("lr_scheduler.ExponentialLR(optimizer, 0.9)", []),
        ("lr_scheduler.StepLR(optimizer, 1, 0.9)", []),
    ],
)
def test_a_scheduler_that_is_made_in_each_round(made: str, expected: list[str]) -> None:
    source = f"for epoch in range(6):\n    s = {made}\n    step()\n    s.step()\n"
    assert [code for code, _ in said(source)] == expected
    cycles = f"for cycle in range(6):\n    s = {made}\n    for i in range(3):\n        step()\n        s.step()\n"
    assert said(cycles) == []


def test_rates_that_are_set_to_zero_by_hand() -> None:
    source = "for epoch in range(9):\n    for g in optimizer.param_groups: g['lr'] = 0.1 * (epoch // 100)\n    step()\n"
    assert said(source) == [("learning-rate-zero", [10])]
