"""Derivatives of custom Functions, compared as formulas of their source."""

from __future__ import annotations

import ast
import textwrap

import pytest

from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.facts.losses.scalar_formulas import wrong_derivatives


def wrong(arguments: str, forward: str, backward: str) -> list[str]:
    """The arguments with a wrong derivative."""
    bodies = [textwrap.indent(textwrap.dedent(body), "    ") for body in (forward, backward)]
    source = f"def forward(ctx, {arguments}):\n{bodies[0]}\ndef backward(ctx, grad):\n{bodies[1]}\n"
    first, second = ast.parse(source).body
    assert isinstance(first, ast.FunctionDef)
    assert isinstance(second, ast.FunctionDef)
    return [
        one.argument for one in wrong_derivatives(WrittenBackward("F", 0, "F.backward", second, {"forward": first}))
    ]


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
