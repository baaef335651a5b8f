"""Copies that are trained in place of what an optimizer holds, and those that are meant to be."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
net = torch.nn.Linear(3, 1)
outer = torch.optim.Adam(net.parameters(), lr=0.1)
def adapted():
    fast = copy.deepcopy(net)
    inner = torch.optim.SGD(fast.parameters(), lr=0.1)
    fast(torch.ones(2, 3)).sum().backward()
    inner.step()
    inner.zero_grad()
    return fast
for round in range(4):
    outer.zero_grad()
    fast = adapted()
    fast(torch.ones(2, 3)).pow(2).mean().backward()
    {}
"""
FIRST_ORDER = "for p, q in zip(net.parameters(), fast.parameters()): p.grad = q.grad.clone()\n    outer.step()"
REPTILE = "with torch.no_grad():\n        for p, q in zip(net.parameters(), fast.parameters()): p.lerp_(q, 0.1)"


def warnings(step: str) -> list[int]:
    answers = build(recorded(PROGRAM.format(step))).answers
    return [one.causes[0].line for one in answers if one.code == "leaf-unreached" and one.severity == "warning"]


def test_steps_of_an_optimizer_of_whose_parameters_only_a_copy_was_used() -> None:
    assert warnings("outer.step()") == [line_of(PROGRAM, "copy.deepcopy")]


@pytest.mark.parametrize("step", [FIRST_ORDER, REPTILE, f"outer.step()\n    {REPTILE}", "print(net.weight)"])
def test_copies_that_are_handed_back_are_none(step: str) -> None:
    assert warnings(step) == []
