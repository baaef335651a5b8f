"""Gradients that are divided twice before a step by two calls of one function."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scale = 64.0

def unscale(by=scale):
    with torch.no_grad():
        for p in net.parameters():
            {divides}

def ready():
    unscale()
    return all(bool(p.grad.isfinite().all()) for p in net.parameters())

def step():
    {again}
    optimizer.step()

for _ in range(5):
    optimizer.zero_grad()
    (net(torch.rand(5, 3)).pow(2).mean() * scale).backward()
    {once}
    {between}
    step()
"""
DIVIDES = "p.grad.div_(scale)"


def told(**parts: str) -> tuple[list[int], str]:
    given = {"divides": DIVIDES, "again": "ready()  # again", "once": "ready()  # once", "between": "pass", **parts}
    source = PROGRAM.format(**given)
    answers = [one for one in build(recorded(source)).answers if one.code == "gradient-scaled-twice"]
    return sorted(cause.line for one in answers for cause in one.causes), source


@pytest.mark.parametrize("divides", [DIVIDES, "p.grad.mul_(1 / scale)"])
def test_both_calls_are_told(divides: str) -> None:
    lines, source = told(divides=divides)
    assert lines == [line_of(source, "# again"), line_of(source, "# once")]


@pytest.mark.parametrize(
    "parts",
    [
        {"again": "pass", "once": "ready()"},
        {"again": "ready()", "once": "ready()", "between": "optimizer.step()"},
        {"again": "ready()", "once": "ready()", "divides": "p.grad.div_(1.0)"},
        {"again": "ready()", "once": "ready()", "divides": "p.grad.div_(by)"},
        {"again": "pass", "once": "[ready() for _ in range(2)]"},
        {"again": "ready()", "once": "ready()", "between": "torch.nn.utils.clip_grad_value_(net.parameters(), 0.001)"},
    ],
)
def test_others_are_none(parts: dict[str, str]) -> None:
    assert told(**parts)[0] == []
