"""What a custom Function keeps as an attribute of its ctx, and what is written into it before backward."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        {keep}  # keeps
        return x * x
    @staticmethod
    def backward(ctx, grad):
        {backward}
w = torch.ones(3, requires_grad=True)
h = w * 2
for step in range(2):
    h = w * 2
    {use}  # write
    h.sum().backward()
"""


def found(use: str, keep: str = "ctx.x = x", backward: str = "return 2 * ctx.x * grad") -> list[list[int]]:
    answers = build(recorded(SOURCE.format(use=use, keep=keep, backward=backward))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "gradient-silently-wrong"]


@pytest.mark.parametrize(
    "use",
    [
        "h += Square.apply(h)",
        "h = h.add_(Square.apply(h))",
        "y = Square.apply(h); h.mul_(3); h = h + y",
        "y = Square.apply(h); h[0] = 1; h = y",
        "y = Square.apply(h) * 1; h.zero_(); h = y",
        "y = Square.apply(h); h.relu_(); h = y",
    ],
)
def test_an_input_that_is_written_after_it(use: str) -> None:
    source = SOURCE.format(use=use, keep="ctx.x = x", backward="")
    assert found(use) == [[line_of(source, "# write"), line_of(source, "# keeps")]]


@pytest.mark.parametrize(
    "backward",
    ["x = ctx.x\n        return 2 * x * grad", "x, s = ctx.x, 2\n        ctx.x = None\n        return s * x * grad"],
)
def test_it_is_read_under_another_name(backward: str) -> None:
    assert found("h += Square.apply(h)", backward=backward)


@pytest.mark.parametrize(
    ("use", "keep", "backward"),
    [
        ("h = h + Square.apply(h)", "ctx.x = x", "return 2 * ctx.x * grad"),
        ("h += Square.apply(h)", "ctx.x = x.clone()", "return 2 * ctx.x * grad"),
        ("h += Square.apply(h)", "ctx.x = x", "return grad.expand(ctx.x.shape)"),
        ("h += Square.apply(h)", "ctx.x = x", "return grad + torch.zeros_like(ctx.x)"),
        ("h += Square.apply(h)", "ctx.x = x", "ctx.x.copy_(grad)\n        return 2 * ctx.x * grad"),
        ("h = Square.apply(h); w.data.mul_(0.9)", "ctx.x = x", "return 2 * ctx.x * grad"),
        ("h = Square.apply(h); h = h * 1; h.mul_(2)", "ctx.x = x", "return 2 * ctx.x * grad"),
    ],
)
def test_what_does_no_harm(use: str, keep: str, backward: str) -> None:
    assert not found(use, keep, backward)
