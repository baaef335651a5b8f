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
