"""Schedulers that are stepped for each batch, though their numbers are epochs."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch.optim import lr_scheduler
layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scheduler = lr_scheduler.MultiStepLR(optimizer, [4, 5], gamma=0.1)
def epoch():
    for batch in torch.ones(8, 2, 4):
        optimizer.zero_grad()
        layer(batch).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()  # here
for _ in range(6):
    epoch()
"""
LOOP = "    for batch in torch.ones(8, 2, 4):"
ONE_PLACE = (
    (
        "def epoch():\n    for batch in torch.ones(8, 2, 4):",
        "for _ in range(6):\n    for batch in torch.ones(8, 2, 4):",
    ),
    ("for _ in range(6):\n    epoch()\n", ""),
)
COSINE = ("MultiStepLR(optimizer, [4, 5], gamma=0.1)", "CosineAnnealingLR(optimizer, 6)")


def found(*changes: tuple[str, str]) -> list[int]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    answers = [one for one in build(recorded(source)).answers if one.code == "scheduler-per-batch"]
    return [one.causes[0].line - line_of(source, "# here") for one in answers]


@pytest.mark.parametrize("changes", [(), ONE_PLACE, (COSINE,)], ids=["function", "two loops", "cosine"])
def test_the_line_that_steps_it_is_named(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*changes) == [0]


@pytest.mark.parametrize(
    "changes",
    [
        (("        scheduler.step()  # here", "    scheduler.step()  # here"),),
        (("[4, 5]", "[24, 40]"),),
        (("gamma=0.1", "gamma=0.5"),),
        (("CosineAnnealingLR(optimizer, 6)", "CosineAnnealingLR(optimizer, 48)"),),
        (("for _ in range(6):\n    epoch()\n", "epoch()\n"), ("torch.ones(8, 2, 4)", "torch.ones(48, 2, 4)")),
    ],
    ids=["once an epoch", "in batches", "a larger part is left", "cosine in batches", "one loop"],
)
def test_numbers_of_steps_are_fine(changes: tuple[tuple[str, str], ...]) -> None:
    assert found(*((COSINE, *changes) if "Cosine" in changes[0][0] else changes)) == []


BY_COUNT = """
import torch
from torch.optim import lr_scheduler
class Settings:
    epochs, rounds = 6, 6
args = Settings()
layer, batches = torch.nn.Linear(4, 1), torch.ones(4, 2, 4)
def run(epochs):
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scheduler = lr_scheduler.StepLR(optimizer, step_size=epochs // 2, gamma=0.5)  # made
    for epoch in range(epochs):
        for batch in batches:
            optimizer.zero_grad()
            layer(batch).pow(2).mean().backward()
            optimizer.step()
            scheduler.step()  # here
run(args.epochs)
"""
MADE = "StepLR(optimizer, step_size=epochs // 2, gamma=0.5)"
ONE_BATCH = ("torch.ones(4, 2, 4)", "torch.ones(1, 2, 4)")
STEP = "            scheduler.step()  # here"


def counted(*changes: tuple[str, str]) -> list[tuple[list[int], str]]:
    source = BY_COUNT
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    here, made = (line_of(source, mark) for mark in ("# here", "# made"))
    answers = [one for one in build(recorded(source)).answers if one.code == "scheduler-per-batch"]
    assert all([cause.line for cause in one.causes] == [here, made] for one in answers)
    return [one.text for one in answers]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ((), "with step_size=epochs // 2, in rounds of the outer one (line 10): these 3 are over after 3 of 24 steps"),
        (((MADE, "MultiStepLR(optimizer, [int(epochs * 0.5), epochs - 1])"),), "these 5 are over after 5 of 24 steps"),
        (
            ((MADE, "CosineAnnealingLR(optimizer, T_max=args.epochs)"), ("range(epochs)", "range(1, args.epochs + 1)")),
            "with T_max=args.epochs, in rounds of the outer one (line 10): these 6 are over after 6 of 24 steps",
        ),
        (
            (
                ("    for epoch in range(epochs):\n        for batch", "    def once():\n        for batch"),
                ("run(args.epochs)", "    for _ in range(epochs):\n        once()\nrun(args.epochs)"),
            ),
            "in rounds of the outer one (line 16)",
        ),
    ],
    ids=["step", "milestones", "cosine", "function"],
)
def test_a_number_made_of_that_of_the_rounds_around_is_told_of_whatever_the_rates_are(
    changes: tuple[tuple[str, str], ...], told: str
) -> None:
    (text,) = counted(*changes)
    assert told in text


@pytest.mark.parametrize(
    "changes",
    [
        ((STEP, STEP[4:]),),
        ((MADE, "StepLR(optimizer, step_size=epochs * len(batches) // 2, gamma=0.5)"),),
        ((MADE, "StepLR(optimizer, step_size=3, gamma=0.5)"),),
        ((MADE, "StepLR(optimizer, step_size=args.rounds, gamma=0.5)"),),
        (("torch.ones(4, 2, 4)", "torch.ones(1, 2, 4)"),),
        (
            ("torch.ones(4, 2, 4)", "torch.ones(1, 2, 4)"),
            ("run(args.epochs)", "for _ in range(3):\n    run(args.epochs)"),
        ),
        ((STEP, "            if batch is batches[-1]:\n                scheduler.step()  # here"),),
        ((STEP, "        for one in [scheduler]:\n            one.step()  # here"),),
    ],
    ids=[
        "once an epoch",
        "in batches",
        "a number",
        "of others",
        "one batch",
        "one batch, twice",
        "under a condition",
        "loop of schedulers",
    ],
)
def test_a_number_of_batches_or_of_nothing_known_is_fine(changes: tuple[tuple[str, str], ...]) -> None:
    assert counted(*changes) == []


TINY = (("step_size=epochs // 2, gamma=0.5", "step_size=2, gamma=0.1"),)


def _too_small(*changes: tuple[str, str]) -> int:
    source = BY_COUNT
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    return sum(one.code == "learning-rate-zero" for one in build(recorded(source)).answers)


def test_a_rate_that_is_next_to_nothing_sooner_is_told_of_where_batches_step_it() -> None:
    assert _too_small(*TINY) == 1
    one_loop = (("in range(epochs)", "in range(1)"), ("torch.ones(4,", "torch.ones(24,"))
    flat = (("    for epoch in range(epochs):\n        for batch", "    if True:\n        for batch"), one_loop[1])
    assert _too_small(*TINY, *flat) == 0
    anew = (("run(args.epochs)", "for _ in range(2):\n    run(args.epochs)"), *flat)
    assert _too_small(*TINY, *anew) == 0
