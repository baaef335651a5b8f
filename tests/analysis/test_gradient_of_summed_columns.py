"""Gradients of several columns at once that are taken apart; and sums of columns that are meant, or one each."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FLOW = """
import torch
net, at = torch.nn.Linear(2, 3), torch.rand(5, 2, requires_grad=True)
def slopes(values):
    ones = torch.ones_like(values)
    return torch.autograd.grad(values, at, grad_outputs=ones, create_graph=True)[0]
class Flow:
    def residual(self):
        out = net(at).exp()
        velocity, pressure = out[:, :2], out[:, 2:]
        speed = out[:, 0]
        first = slopes(velocity)  # asked
        push = slopes(pressure)
        return first[:, 0] + first[:, 1] - push[:, 0] + push[:, 1]  # taken
Flow().residual().sum().backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "gradient-of-summed-columns" for cause in one.causes]


def test_the_call_and_where_the_columns_are_taken_are_the_causes() -> None:
    assert lines(FLOW) == [line_of(FLOW, "# asked"), line_of(FLOW, "# taken")]
    alone = FLOW.replace("        push = slopes(pressure)\n", "").replace(" - push[:, 0] + push[:, 1]", "")
    assert lines(alone) == [
        line_of(alone, "return torch.autograd"),
        line_of(alone, "# asked"),
        line_of(alone, "# taken"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slopes(velocity)", "slopes(velocity[:, :1])"),
        ("torch.ones_like(values)", "torch.randn_like(values)"),
        ("first[:, 0] + first[:, 1]", "first.pow(2).sum(1)"),
        ("first[:, 0] + first[:, 1]", "first[:, 0] + first[0, 0]"),
        ("        speed = out[:, 0]\n", ""),
        ("net(at).exp()", "(at @ torch.ones(2, 3)).detach() + at.repeat(1, 2)[:, :3].exp()"),
        ("torch.nn.Linear(2, 3), torch.rand(5, 2", "torch.nn.Linear(1, 3), torch.rand(5, 1"),
    ],
)
def test_one_column_another_weight_or_columns_that_are_one_thing_are_none(old: str, new: str) -> None:
    assert old in FLOW
    source = FLOW.replace(old, new)
    assert lines(source.replace("[:, 1]", "[:, 0]") if "rand(5, 1" in new else source) == []
