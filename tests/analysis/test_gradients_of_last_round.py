"""Backwards whose loop keeps the gradient of its last round; and loops that add up, collect, or carry on."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ADJOINT = """
import torch
def cell(x, w, b):
    return torch.tanh(x @ w + b)
class Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, *params):
        path = [x]
        for _ in range(4):
            path.append(cell(path[-1], *params))
        ctx.save_for_backward(*path[:-1], *params)
        return path[-1]
    @staticmethod
    def backward(ctx, a):
        *path, w, b = ctx.saved_tensors
        params, sums = (w, b), [torch.zeros_like(w), torch.zeros_like(b)]
        for x in reversed(path):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                out = cell(x, *params)
            {body}  # here
        return a, *sums
w, b = torch.rand(3, 3, requires_grad=True), torch.rand(3, requires_grad=True)
for _ in range(2):
    Solve.apply(torch.rand(2, 3), w, b).sum().backward()
"""
RECURRENT = """
import torch
class Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, xs, h, weight):
        states = [h]
        for x in xs:
            states.append(torch.tanh(x + states[-1] @ weight))
        ctx.save_for_backward(weight, *states)
        return states[-1]
    @staticmethod
    def backward(ctx, grad):
        weight, *states = ctx.saved_tensors
        of_weight, of_xs, of_state = torch.zeros_like(weight), [], grad
        for before, after in zip(reversed(states[:-1]), reversed(states[1:])):
            inner = grad * (1 - after**2)
            of_xs.append(inner)
            {body}  # here
            of_state = inner @ weight.t()
            grad = inner @ weight.t()
        return torch.stack(of_xs[::-1]), of_state, of_weight
weight = torch.rand(3, 3, requires_grad=True)
Scan.apply(torch.rand(4, 2, 3), torch.rand(2, 3), weight).sum().backward()
"""
HELPER = """
import torch
def sweep(path, weight, a):
    for x in reversed(path):
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            given = torch.autograd.grad((leaf * weight).sin(), [leaf, weight], a)
        a = given[0]
        own = given[1]  # here
    return a, own
class Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        path = [x]
        for _ in range(4):
            path.append((path[-1] * weight).sin())
        ctx.save_for_backward(weight, *path[:-1])
        return path[-1]
    @staticmethod
    def backward(ctx, a):
        weight, *path = ctx.saved_tensors
        return sweep(path, weight, a)
weight = torch.rand(3, requires_grad=True)
Solve.apply(torch.rand(2, 3), weight).sum().backward()
"""
OVERWRITES = [
    ADJOINT.format(body="a, *sums = torch.autograd.grad(out, (x, *params), a)"),
    ADJOINT.format(body="given = torch.autograd.grad(out, (x, w, b), a); a = given[0]; sums = given[1:]"),
    RECURRENT.format(body="of_weight = before.t() @ inner"),
]


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "gradient-of-last-round"]


@pytest.mark.parametrize("source", OVERWRITES)
def test_the_assignment_in_the_loop_is_the_line_to_change(source: str) -> None:
    assert lines(source) == [line_of(source, "# here")]


def test_a_function_that_backward_calls_is_part_of_it() -> None:
    assert lines(HELPER) == [line_of(HELPER, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        ADJOINT.format(
            body="a, *own = torch.autograd.grad(out, (x, *params), a); sums = [p + q for p, q in zip(sums, own)]"
        ),
        ADJOINT.format(
            body="a, *own = torch.autograd.grad(out, (x, *params), a); sums[0] += own[0]; sums[1] += own[1]"
        ),
        ADJOINT.format(body="a, *sums = torch.autograd.grad(out, (x, *params), a); break"),
        ADJOINT.replace("range(4)", "range(1)").format(body="a, *sums = torch.autograd.grad(out, (x, *params), a)"),
        RECURRENT.format(body="of_weight = of_weight + before.t() @ inner"),
        RECURRENT.format(body="of_weight += before.t() @ inner"),
        HELPER.replace("own = given[1]", "own = given[1] + (own if a is not given[0] else 0)").replace(
            "    for x in rev", "    own = 0\n    for x in rev"
        ),
    ],
)
def test_what_is_added_up_or_carried_on_or_of_one_round_is_none(source: str) -> None:
    assert lines(source) == []


def test_a_fixed_point_whose_last_round_is_what_was_looked_for_is_none() -> None:
    source = ADJOINT.replace("for x in reversed(path):", "x = path[-1]\n        for _ in range(5):")
    source = source.replace("range(4)", "range(40)")
    assert lines(source.format(body="a, *sums = torch.autograd.grad(out, (x, *params), a)")) == []
