"""Gradients of several columns at once that are set against each column; and what is stretched on purpose."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SYSTEM = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
at = torch.linspace(0, 1, 6).unsqueeze(1).requires_grad_()
def slope(values):
    return torch.autograd.grad(values, at, torch.ones_like(values), create_graph=True)[0]  # asked
for _ in range(3):
    state = net(at)
    first = slope(state)
    residual = first - state.flip(1)  # set against
    residual.pow(2).mean().backward()
"""
BY_SUM = """
import torch
import torch.nn.functional as F
net, at = torch.nn.Linear(1, 3), torch.rand(2, 6, 1, requires_grad=True)
out = net(at).tanh()
first, = torch.autograd.grad(out.sum(), at, create_graph=True)  # asked
second, = torch.autograd.grad(first.sum(), at, create_graph=True)
wave = 2 * second + first
(-wave + out).pow(2).mean().backward()  # set against
"""
APART = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(1, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
at = torch.linspace(0, 1, 6).requires_grad_()
out = net(at[:, None])
place, speed = out[:, 0], out[:, 1]
slope, = torch.autograd.grad(out, at, torch.ones_like(out), create_graph=True)  # asked
first = slope - speed  # one
second = slope + 4 * place  # other
(first.pow(2) + second.pow(2)).mean().backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "gradient-of-summed-columns" for cause in one.causes]


@pytest.mark.parametrize("source", [SYSTEM, BY_SUM])
def test_the_call_comes_first_and_then_where_its_result_is_stretched(source: str) -> None:
    assert lines(source) == [line_of(source, "# asked"), line_of(source, "# set against")]


def test_two_equations_that_take_it_with_a_column_each() -> None:
    assert lines(APART) == [line_of(APART, text) for text in ("# asked", "# one", "# other")]
    assert lines(APART.replace("slope + 4 * place", "slope * place")) == []
    assert lines(APART.replace("slope + 4 * place", "slope + 4 * speed.sin()")) == []
    whole = APART.replace("slope - speed", "slope.unsqueeze(1) - out")
    assert lines(whole) == [line_of(whole, "# asked"), line_of(whole, "# one")]


def test_a_call_that_is_right_for_one_column_is_not_the_line_to_change() -> None:
    source = SYSTEM.replace("    residual.pow", "    plain = slope(state[:, :1])\n    (residual + plain).pow")
    assert lines(source) == [line_of(source, "# set against")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("first = slope(state)", "first = torch.cat([slope(state[:, i : i + 1]) for i in range(2)], 1)"),
        ("torch.ones_like(values)", "torch.rand_like(values)"),
        ("first - state.flip(1)", "first * state.flip(1)"),
        ("first - state.flip(1)", "first - state.sum(1, keepdim=True)"),
        ("first - state.flip(1)", "net(at - 0.1 * first) - state + (at - 0.1 * first)"),
        ("first - state.flip(1)", "first - torch.rand(6, 5).sum(1, keepdim=True)"),
        ("create_graph=True", "retain_graph=True"),
    ],
)
def test_derivatives_of_one_column_each_and_steps_down_a_sum_are_none(old: str, new: str) -> None:
    assert old in SYSTEM
    assert lines(SYSTEM.replace(old, new)) == []
