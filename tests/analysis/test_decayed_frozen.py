"""Frozen parameters that an optimizer of the program's own decays in its steps."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

class Decayed(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1, weight_decay={decay}):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay))
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            share = group["lr"] * group["weight_decay"]
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad)
                    {inside}
                {outside}

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
body.requires_grad_({trained})
optimizer = Decayed([*body.parameters(), *head.parameters()])
for step in range(5):
    optimizer.zero_grad()
    head(torch.tanh(body(torch.rand(6, 3)))).pow(2).mean().backward()
    optimizer.step()
    {after}
"""
MULTIPLIED = "p.mul_(1 - share)"
ADDED = "p.data.add_(p.data, alpha=-share)"


def told(**parts: str) -> tuple[list[int], str]:
    given = {"decay": "0.1", "inside": "pass", "outside": "pass", "trained": "False", "after": "pass", **parts}
    source = PROGRAM.format(**given)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "moved-without-gradient"], source


@pytest.mark.parametrize("decays", [MULTIPLIED, ADDED, "p.div_(1 + share)"])
def test_what_decays_outside_of_the_test_for_a_gradient(decays: str) -> None:
    lines, source = told(outside=decays)
    assert lines == [line_of(source, f"                {decays}")]


@pytest.mark.parametrize(
    "parts",
    [
        {"inside": MULTIPLIED},
        {"outside": MULTIPLIED, "trained": "True"},
        {"outside": MULTIPLIED, "decay": "0.0"},
        {"outside": ADDED, "decay": "0.0"},
        {"outside": "p.clamp_(-2, 2)"},
        {"after": "[p.data.mul_(0.99) for p in body.parameters()]"},
    ],
)
def test_others_are_none(parts: dict[str, str]) -> None:
    assert told(**parts)[0] == []


def test_the_sentence() -> None:
    source = told(outside=MULTIPLIED)[1]
    (text,) = [one.text for one in build(recorded(source)).answers if one.code == "moved-without-gradient"]
    line = line_of(source, "                p.mul_")
    assert text.startswith(
        f"Line {line}: the steps of Decayed change body.weight and body.bias without a gradient, which require no grad:"
        " the line multiplies by a number (0.99 the last time) whatever the optimizer holds."
    )
