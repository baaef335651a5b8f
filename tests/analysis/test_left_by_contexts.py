"""Parameters that a context manager freezes and leaves so."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
from contextlib import contextmanager
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)

def switch(on):
    for p in body.parameters():
        p.requires_grad_(on)

{manager}

def loss_of(x):
    with {opens}, torch.no_grad():
        reference = head(body(x))
    return (head(torch.tanh(body(x))) - reference).pow(2).mean()

def train():
    for step in range(5):
        optimizer.zero_grad()
        loss_of(torch.rand(6, 3)).backward()
        optimizer.step()
    {after}

{run}
"""
GENERATOR = """
@contextmanager
def frozen():
    switch(False)  # here
    yield
    {back}
"""
CLASS = """
class Frozen:
    def __enter__(self):
        for p in body.parameters():
            p.requires_grad = False  # here
    def __exit__(self, *_):
        {back}
"""


def told(manager: str, **parts: str) -> tuple[list[int], str]:
    opens = "frozen()" if manager is GENERATOR else "Frozen()"
    given = {"opens": opens, "back": "pass", "after": "pass", "run": "train()", **parts}
    source = PROGRAM.replace("{manager}", manager).format(**given)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "left-frozen"], source


@pytest.mark.parametrize("manager", [GENERATOR, CLASS])
def test_what_is_not_set_back_is_told_where_it_is_frozen(manager: str) -> None:
    lines, source = told(manager)
    assert lines == [line_of(source, "# here")]
    (text,) = [one.text for one in build(recorded(source)).answers if one.code == "left-frozen"]
    assert f"when the with of line {line_of(source, 'torch.no_grad():')} is left, that is not set back" in text
    assert "(5 passes)" in text


@pytest.mark.parametrize("manager", [GENERATOR, CLASS])
@pytest.mark.parametrize(
    "parts",
    [
        {"back": "switch(True)"},
        {"after": "switch(True)"},
        {"opens": "torch.enable_grad()"},
        {"opens": "torch.enable_grad()", "run": "with {opened}:\n    train()"},
    ],
)
def test_what_is_set_back_or_frozen_for_a_training_is_none(manager: str, parts: dict[str, str]) -> None:
    opened = "frozen()" if manager is GENERATOR else "Frozen()"
    assert told(manager, **{name: text.format(opened=opened) for name, text in parts.items()})[0] == []
