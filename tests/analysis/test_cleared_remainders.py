"""What an epoch has added up for a step of the next one, and what begins that one throws away."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

EPOCHS = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
batches = [torch.rand(2, 3) for _ in range(6)]
count = 0
def clear():
    for p in net.parameters():
        p.grad = None
def step():
    optimizer.step()
    optimizer.zero_grad()
for epoch in range(4):
    optimizer.zero_grad()  # begins
    for i, batch in enumerate(batches):
        (net(batch).pow(2).mean() / 4).backward()
        count += 1
        if count % 4 == 0:  # the condition
            step()
"""
BEGINS = "optimizer.zero_grad()  # begins"
CONDITION = "if count % 4 == 0:  # the condition"


def told(source: str) -> list[list[int]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "accumulation-cleared"]
    return [[cause.line for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BEGINS, BEGINS),
        (BEGINS, "net.zero_grad(set_to_none=False)  # begins"),
        (BEGINS, "clear()  # begins"),
        ("    optimizer.step()\n    optimizer.zero_grad()", "    optimizer.step()\n    net.zero_grad()"),
        (CONDITION, "if i + len(batches) * epoch - last >= 4:\n            last = i + len(batches) * epoch"),
    ],
    ids=["optimizer", "to zero", "by hand", "model", "since the last step"],
)
def test_the_line_that_clears_at_the_begin_of_an_epoch_is_named(old: str, new: str) -> None:
    source = EPOCHS.replace("count = 0", "count, last = 0, -1").replace(old, new)
    assert told(source) == [[line_of(source, "# begins")]]


def test_what_was_counted_is_told() -> None:
    (text,) = (one.text for one in build(recorded(EPOCHS)).answers if one.code == "accumulation-cleared")
    assert "each of 6 steps came 4 backward passes after the one before, and 2 of these steps" in text
    assert "the last of them of 2" in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BEGINS, "pass"),  # what is left over goes into the next step
        (BEGINS, BEGINS + "\n    count = 0"),  # what is left over is dropped, and the count begins anew
        (CONDITION, "if (i + 1) % 4 == 0 or i == len(batches) - 1:"),  # nothing is left over
        ("range(6)", "range(8)"),
        ("range(4)", "range(2)"),  # once: it may have come by chance
        (BEGINS, "kept = [p.grad.clone() for p in net.parameters() if p.grad is not None]\n    " + BEGINS),
    ],
    ids=["kept", "counted anew", "stepped at the end", "none left", "once", "looked at"],
)
def test_what_is_dropped_on_purpose_or_not_at_all_is_fine(old: str, new: str) -> None:
    source = EPOCHS.replace(old, new)
    assert source != EPOCHS
    assert told(source) == []


@pytest.mark.parametrize("bad", ["count in (2, 9)", "i == 1 and epoch in (0, 1, 3)", "i == 2 and epoch"])
def test_what_a_line_drops_within_an_epoch_is_fine(bad: str) -> None:
    source = EPOCHS.replace(BEGINS, "pass").replace("count += 1", f"count += 1\n        if {bad}: clear()")
    assert told(source) == []
