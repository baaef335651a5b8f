"""Rounds of a loop that are left over when gradients are added up, and that the next run of the loop applies."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

EPOCHS = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
batches = [torch.rand(2, 3) for _ in range(10)]
def step():
    optimizer.step()
    optimizer.zero_grad()
def run():
    count = 0
    for i, batch in enumerate(batches):
        (net(batch).pow(2).mean() / 4).backward()
        count += 1
        if (i + 1) % 4 == 0:  # the condition
            optimizer.step()
            optimizer.zero_grad()
for epoch in range(3):
    run()
"""
TEST = "if (i + 1) % 4 == 0:  # the condition"
BODY = "            optimizer.step()\n            optimizer.zero_grad()\n"
BODIES = TEST + "\n" + BODY


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "remainder-left"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        (BODIES, TEST.replace("==", "!=") + "\n            continue\n" + BODY.replace("            ", "        ")),
        (TEST, "last = (i + 1) % 4 == 0  # the condition\n        if last:"),
        (BODIES, "if count == 4:  # the condition\n            count = 0\n" + BODY),
        (BODIES, TEST + "\n            step()\n"),
        ("range(3)", "range(2)"),
    ],
    ids=["under it", "after it", "by a name", "a count", "in a function", "two runs"],
)
def test_the_condition_that_counts_from_the_beginning_is_the_cause(old: str, new: str) -> None:
    source = EPOCHS.replace(old, new)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# the condition")]
    assert answer.text.startswith(
        f"Line {line_of(source, '# the condition')}: no step follows the last 2 backward passes"
    )
    assert "6 passes in place of 4" in answer.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("== 0:", "== 0 or i == 9:"),
        ("range(10)", "range(8)"),
        ("range(10)", "range(4)"),
        ("    count = 0\n", "    optimizer.zero_grad()\n"),
        ("    run()\n", "    run()\n    step()\n"),
        ("range(3)", "range(1)"),
        ("    count = 0\n    for i", "    global total\n    for i"),
    ],
    ids=["the last too", "a multiple", "one step", "cleared before", "stepped after", "one run", "counted over all"],
)
def test_rounds_that_are_not_left_over(old: str, new: str) -> None:
    assert old in EPOCHS
    source = EPOCHS.replace(old, new)
    if "global" in new:
        source = source.replace("def run", "total = 0\ndef run").replace("count += 1", "total += 1")
        source = source.replace("(i + 1) %", "total %")
    elif "    count" not in source.replace("count += 1", ""):
        source = source.replace("        count += 1\n", "")
    assert not found(source)


VARIED = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
def run(sizes):
    rows = 0
    for size in sizes:
        net(torch.rand(size, 3)).pow(2).sum().backward()
        rows += size
        if rows >= 6:
            optimizer.step()
            optimizer.zero_grad()
            rows = 0
for epoch in range(3):
    run([3, 3, 2, 2, 2, 3, 3])
"""


def test_steps_by_the_number_of_rows() -> None:
    assert not found(VARIED)
