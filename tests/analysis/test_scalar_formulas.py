"""Derivatives of custom Functions, compared as formulas of their source."""

from __future__ import annotations

import ast
import textwrap

import pytest

from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.facts.losses.complex_formulas import without_conjugate
from gradscope.analysis.facts.losses.scalar_formulas import wrong_derivatives
from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded


def wrong(arguments: str, forward: str, backward: str) -> list[str]:
    """The arguments with a wrong derivative."""
    return [one.argument for one in wrong_derivatives(written(arguments, forward, backward))]


def written(arguments: str, forward: str, backward: str) -> WrittenBackward:
    bodies = [textwrap.indent(textwrap.dedent(body), "    ") for body in (forward, backward)]
    source = f"def forward(ctx, {arguments}):\n{bodies[0]}\ndef backward(ctx, grad):\n{bodies[1]}\n"
    first, second = ast.parse(source).body
    assert isinstance(first, ast.FunctionDef)
    assert isinstance(second, ast.FunctionDef)
    return WrittenBackward("F", 0, "F.backward", second, {"forward": first})


SAVED = "ctx.save_for_backward(x)\nreturn {}"
TAKEN = "(x,) = ctx.saved_tensors\ns = torch.sigmoid(x)\nreturn {}"


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("x * torch.sigmoid(x)", "grad * (s + x * (1 - s))"),
        ("torch.tanh(x)", "grad * (1 - x.tanh())"),
        ("x ** 3", "grad * x ** 2"),
        ("x.exp().log1p()", "-grad * s"),
        ("torch.nn.functional.silu(x)", "grad * s"),
        ("1 / (x * x + 1)", "grad * -2 * x / (x * x + 1)"),
    ],
)
def test_a_formula_with_another_derivative_is_found(forward: str, backward: str) -> None:
    assert wrong("x", SAVED.format(forward), TAKEN.format(backward)) == ["x"]


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("x * torch.sigmoid(x)", "grad * (s + x * s * (1 - s))"),
        ("x ** 3", "3 * grad * torch.square(x)"),
        ("torch.sqrt(x * x + 1e-6)", "grad * x / (x.pow(2) + 1e-3).sqrt()"),
        ("torch.exp(x)", "grad * x.clamp(-9, 9).exp()"),
        ("torch.tanh(x)", "grad.clone()"),
        ("torch.tanh(x)", "grad.clamp(-1, 1)"),
        ("x.clone()", "-0.5 * grad"),
        ("x * 2", "grad * s"),
        ("torch.round(x)", "grad * s"),
        ("(x > 0).float()", "grad / (1 + x.abs()) ** 2"),
        ("x * x.mean()", "grad * s"),
        ("x @ x", "grad * s"),
    ],
)
def test_what_agrees_is_meant_or_not_known_is_not(forward: str, backward: str) -> None:
    assert wrong("x", SAVED.format(forward), TAKEN.format(backward)) == []


def test_each_argument_is_compared_with_the_others_values() -> None:
    forward = "ctx.save_for_backward(a, b)\nctx.scale = k\nreturn a * torch.exp(b) * k"
    taken = "a, b = ctx.saved_tensors\ne = torch.exp(b)\nreturn {}, None"
    assert wrong("a, b, k", forward, taken.format("grad * a * ctx.scale, grad * e * ctx.scale")) == ["a", "b"]
    assert wrong("a, b, k", forward, taken.format("grad * e * ctx.scale, (grad * a * e).sum(0) * ctx.scale")) == []
    assert wrong("a, b, k", forward, taken.format("grad * e * ctx.scale, grad * e * ctx.scale")) == ["b"]
    assert wrong("a, b, k", forward, taken.format("None, grad * a * e * ctx.scale")) == []


def test_a_factor_that_forward_does_not_use_is_meant() -> None:
    forward = "y = torch.tanh(x)\nctx.save_for_backward(y)\nctx.weight = weight\nreturn y"
    backward = "y, = ctx.saved_tensors\nreturn grad * (1 - y * y) * ctx.weight, None"
    assert wrong("x, weight", forward, backward) == []


@pytest.mark.parametrize("body", ["if x > 0:\n    pass\nreturn x * x", "for _ in range(2):\n    x = x * x\nreturn x"])
def test_branches_and_loops_are_not_evaluated(body: str) -> None:
    assert wrong("x", body, "return grad * 3 * grad") == []


def test_what_is_computed_only_where_it_is_needed_is_compared_too() -> None:
    taken = "(x,) = ctx.saved_tensors\ng = other = None\nif ctx.needs_input_grad[0]:\n    g = {}\nreturn g"
    assert wrong("x", SAVED.format("x ** 3"), taken.format("grad * x ** 2")) == ["x"]
    assert wrong("x", SAVED.format("x ** 3"), taken.format("3 * grad * x ** 2")) == []
    chosen = "(x,) = ctx.saved_tensors\nreturn grad * x ** 2 if ctx.needs_input_grad[0] else None"
    assert wrong("x", SAVED.format("x ** 3"), chosen) == ["x"]


COMPLEX = "ctx.save_for_backward(x, y)\nreturn {}"


@pytest.mark.parametrize(
    ("forward", "x", "y", "lacking"),
    [
        ("x * y", "grad * y", "grad * x", ["x", "y"]),
        ("x * y", "grad * y.conj()", "(grad * x).sum(dim=0)", ["y"]),
        ("x * y", "grad * torch.conj(y)", "(grad * x.conj()).sum(dim=0)", []),
        ("x * torch.exp(y)", "grad * torch.exp(y)", "grad * x * torch.exp(y)", ["x", "y"]),
        ("x / y", "grad / y", "-grad * x / y ** 2", ["x", "y"]),
        ("x * y.conj()", "grad * y", "grad.conj() * x", []),
        ("x * y.conj()", "grad * y.conj()", "grad.conj() * x", ["x"]),
        # (other faults than a conjugate are none of this, nor is what is not known)
        ("x * y", "-grad * y", "2 * grad * x", []),
        ("torch.fft.fft(x) * y", "grad * y", "grad * x", []),
        ("x + y", "grad", "grad", []),
    ],
)
def test_complex_factors_have_the_conjugate(forward: str, x: str, y: str, lacking: list[str]) -> None:
    backward = f"x, y = ctx.saved_tensors\nreturn {x}, {y}"
    assert [name for _, name in without_conjugate(written("x, y", COMPLEX.format(forward), backward))] == lacking


PRODUCT = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(x, y)
        return x * y
    @staticmethod
    def backward(ctx, grad):
        x, y = ctx.saved_tensors
        return grad * y, grad * x  # here
w = torch.ones(3, dtype=torch.DTYPE, requires_grad=True)
Product.apply(torch.randn(3, dtype=torch.DTYPE), w).abs().sum().backward()
"""


@pytest.mark.parametrize(
    ("dtype", "change", "is_found"),
    [
        ("complex64", ("", ""), True),
        ("float32", ("", ""), False),
        ("complex64", ("grad * y, grad * x", "grad * y.conj(), grad * x.conj()"), False),
        ("complex64", ("Product.apply(torch.randn(3, dtype=torch.complex64)", "Product.apply(torch.randn(3)"), False),
    ],
)
def test_the_values_that_the_function_was_given_decide(dtype: str, change: tuple[str, str], is_found: bool) -> None:
    source = PRODUCT.replace("DTYPE", dtype).replace(*change)
    found = [one.causes[0].line for one in build(recorded(source)).answers if "lacks a conjugate" in one.text]
    assert found == ([line_of(source, "# here")] if is_found else [])
