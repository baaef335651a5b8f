"""Factors that a Function's forward keeps for its backward, which never reads them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """import torch, math
w = torch.ones(3, requires_grad=True)
class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, c):
        ctx.c = c
        return x * c
    @staticmethod
    def backward(ctx, grad):
        return grad, None
(Scale.apply(w.exp(), 0.1) ** 2).sum().backward()
"""
SETUP = """    def forward(x, c):
        return x * c
    @staticmethod
    def setup_context(ctx, inputs, output):
        x, c = inputs
        ctx.c = c
"""
PRODUCT = """    def forward(ctx, x, c):
        ctx.save_for_backward(x)
        ctx.c = c
        return (x @ x) * c
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        grad_x = 2 * grad * x
        return grad_x, None
"""
FORWARD = SOURCE[SOURCE.index("    def forward") : SOURCE.index("    @staticmethod\n    def backward")]
BOTH = SOURCE[SOURCE.index("    def forward") : SOURCE.index("(Scale")]


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "backward-differs-from-forward" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("x * c", "c * x"),
        ("x * c", "x / c"),
        ("x * c", "torch.mul(x, c)"),
        ("x * c", "ctx.c * x.clone()"),
        ("return x * c", "out = x.mul(c)\n        return out"),
        ("x * c", "x.view_as(x) * c"),
        ("x * c", "x / math.sqrt(c)"),
        ("x * c", "-c * x"),
        ("x * c", "2 * x * c ** 0.5"),
        ("x * c", "x * (1 - c)"),
        ("return grad, None", "return grad.clone(), None"),
        ("return grad, None", "return (grad if ctx.needs_input_grad[0] else None), None"),
        (FORWARD, SETUP),
        (FORWARD, SETUP.replace("x, c = inputs\n        ctx.c = c", "ctx.c = inputs[1]")),
    ],
)
def test_the_return_that_lacks_it_is_the_cause(old: str, new: str) -> None:
    assert old in SOURCE
    source = SOURCE.replace(old, new, 1)
    assert lines(source) == [line_of(source, "return grad" if "return grad" in source else "return (grad")]


def test_of_a_formula_that_is_not_of_single_elements_the_line_that_computes_comes_first() -> None:
    source = SOURCE.replace(BOTH, PRODUCT)
    assert lines(source) == [line_of(source, "grad_x = "), line_of(source, "return grad_x")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("return grad, None", "return grad * ctx.c, None"),
        ("return grad, None", "return (lambda one: grad * one.c)(ctx), None"),
        ("        ctx.c = c\n", ""),  # a backward of its own, on purpose
        ("x * c", "torch.round(x / c) * c"),
        ("x * c", "x.sign() * c"),
        ("x * c", "x"),
        ("x * c", "x.view_as(x)"),
        ("        return grad, None", "        return grad, None  # a straight-through estimate"),
        ("Scale", "ScaleSTE"),
        ("0.1)", "torch.tensor([1.0, 0, 1]))"),  # a mask
        ("        return x * c", "        ctx.out = x * c\n        return ctx.out"),
    ],
)
def test_silent(old: str, new: str) -> None:
    assert old in SOURCE
    assert lines(SOURCE.replace(old, new)) == []


def test_a_mask_beside_a_number_is_none() -> None:
    assert lines(SOURCE.replace("x * c", "x * c * 2.0").replace("0.1)", "torch.ones(3))")) == []


@pytest.mark.parametrize(
    ("kept", "given", "told"), [("x", "2 * grad * x", True), ("out", "2 * grad * out / out.sqrt()", False)]
)
def test_what_is_computed_with_the_factor_holds_it(kept: str, given: str, told: bool) -> None:
    product = PRODUCT.replace(
        "return (x @ x) * c", f"out = (x @ x) * c\n        ctx.save_for_backward({kept})\n        return out"
    )
    product = product.replace("        ctx.save_for_backward(x)\n        ctx.c", "        ctx.c")
    product = product.replace("(x,) =", f"({kept},) =").replace("2 * grad * x", given)
    assert bool(lines(SOURCE.replace(BOTH, product))) is told
