"""Second derivatives through custom Functions: what their forward computed and kept is a constant there."""

from __future__ import annotations

import textwrap

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

CODE = "constant-in-second-derivative"


def program(forward: str, backward: str, last: str = "slope.pow(2).sum().backward()") -> str:
    """A Function of one argument, its gradient with a graph, and a pass through that."""
    head = "import torch\n\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, x):\n"
    calls = "w = torch.linspace(-1, 1, 5, requires_grad=True)\n"
    calls += "(slope,) = torch.autograd.grad(F.apply(w).pow(2).sum(), w, create_graph=True)\n"
    between = "\n    @staticmethod\n    def backward(ctx, grad):\n"
    return head + textwrap.indent(forward, " " * 8) + between + textwrap.indent(backward, " " * 8) + calls + last + "\n"


TANH = "torch.tanh(x)"
SAVED = "gate = torch.sigmoid(x)\nctx.save_for_backward(x, gate)\nreturn x * gate\n"
TAKEN = "x, gate = ctx.saved_tensors\nreturn grad * gate * (1 + x * (1 - gate))\n"


def lines(source: str) -> list[list[int]]:
    return [[cause.line for cause in one.causes] for one in build(recorded(source)).answers if one.code == CODE]


@pytest.mark.parametrize(
    ("forward", "backward", "named"),
    [
        (SAVED, TAKEN, [8, 7, 14]),
        (
            f"ctx.save_for_backward({TANH})\nreturn {TANH}\n",
            "t = ctx.saved_tensors[0]\nreturn grad * (1 - t**2)\n",
            [7, 13],
        ),
        ("ctx.two = 2 * x\nreturn x * x\n", "two = ctx.two\nreturn grad * two\n", [7, 13]),
    ],
)
def test_what_forward_computed_is_named_with_where_it_is_kept_and_used(forward: str, backward: str, named: list[int]):
    assert lines(program(forward, backward)) == [named]


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (SAVED, "x, gate = ctx.saved_tensors\ngate = torch.sigmoid(x)\nreturn grad * gate * (1 + x * (1 - gate))\n"),
        ("y = x.exp()\nctx.save_for_backward(y)\nreturn y\n", "(y,) = ctx.saved_tensors\nreturn grad * y\n"),
        ("mask = torch.rand_like(x)\nctx.mask = mask\nreturn x * mask\n", "return grad * ctx.mask\n"),
        ("s = x.abs().max()\nctx.s = s\nreturn (x / s).round() * s\n", "return grad * ctx.s / ctx.s\n"),
    ],
)
def test_what_is_computed_anew_returned_or_has_no_derivative_is_fine(forward: str, backward: str):
    assert lines(program(forward, backward)) == []


def test_without_a_pass_through_the_gradient_nothing_is_missing():
    assert lines(program(SAVED, TAKEN, last="w.grad = slope.detach()")) == []
