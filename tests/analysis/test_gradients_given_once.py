"""Tensors that are given the gradient of another once, and stepped with it for ever."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

GUARDED = """
import torch
def hand_over(local, shared):
    for mine, theirs in zip(local.parameters(), shared.parameters()):
        if theirs.grad is not None:  # the guard
            return
        theirs._grad = mine.grad  # gives
local, shared = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(shared.parameters(), lr=0.1)
for step in range(8):
    local.load_state_dict(shared.state_dict())
    local.zero_grad()
    local(torch.rand(4, 3)).pow(2).mean().backward()
    hand_over(local, shared)
    optimizer.step()
"""
AROUND = GUARDED.replace("is not None:  # the guard\n            return\n", "is None:  # the guard\n    ").replace(
    "theirs._grad = mine.grad", "theirs.grad = mine.grad.clone()"
)
FIRST_ROUND = GUARDED.replace("    hand_over", "    if step == 0: hand_over").replace(
    "        if theirs.grad is not None:  # the guard\n            return\n", ""
)


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "gradient-given-once"]


@pytest.mark.parametrize(
    ("source", "lines"),
    [(GUARDED, ["# the guard", "# gives"]), (AROUND, ["# the guard", "# gives"]), (FIRST_ROUND, ["# gives"])],
    ids=["a guard before", "a guard around", "in the first round"],
)
def test_the_line_that_gives_no_other_is_the_cause(source: str, lines: list[str]) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, line) for line in lines]
    assert answer.text.startswith(f"Line {line_of(source, lines[0])}: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("        if theirs.grad is not None:  # the guard\n            return\n", ""),
        ("local.zero_grad()", "local.zero_grad(set_to_none=False)"),
        ("            return\n", "            theirs.grad.copy_(mine.grad)\n            continue\n"),
        ("            return\n", "            theirs.grad.data.copy_(mine.grad)\n            continue\n"),
        ("            return\n", "            theirs.grad.numpy()[...] = mine.grad.numpy()\n            continue\n"),
        ("    optimizer.step()", "    optimizer.step()\n    optimizer.zero_grad()"),
        ("range(8)", "range(3)"),
    ],
    ids=["each time", "zeroed in place", "copied into", "its data", "its array", "cleared", "few"],
)
def test_gradients_that_are_renewed(old: str, new: str) -> None:
    assert old in GUARDED
    assert not found(GUARDED.replace(old, new))
