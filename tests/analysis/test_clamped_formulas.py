"""A Function that clamps one value, and whose backward goes by another one to tell where it did."""

from __future__ import annotations

import ast
import textwrap

import pytest

from gradscope.analysis.facts.derivatives.function_sources import WrittenBackward
from gradscope.analysis.facts.losses.clamped_formulas import OtherMask, other_mask
from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded


def found(arguments: str, forward: str, backward: str) -> OtherMask | None:
    bodies = [textwrap.indent(textwrap.dedent(body), "    ") for body in (forward, backward)]
    source = f"def forward(ctx, {arguments}):\n{bodies[0]}\ndef backward(ctx, grad):\n{bodies[1]}\n"
    first, second = ast.parse(source).body
    assert isinstance(first, ast.FunctionDef)
    assert isinstance(second, ast.FunctionDef)
    return other_mask(WrittenBackward("F", 0, "F.backward", second, {"forward": first}))


SAVES = "ctx.save_for_backward(x, g)\nctx.l = l\nreturn "
TAKES = "x, g = ctx.saved_tensors\nl = ctx.l\n"


@pytest.mark.parametrize(
    ("forward", "backward", "arguments"),
    [
        ("(x * g).clamp(-l, l)", "m = grad * (x.abs() <= l)\nreturn m * g, (m * x).sum(dim=0), None", "x g"),
        (
            "torch.clamp(x * g, min=-l, max=l)",
            "m = (x > -l) & (x < l)\nreturn torch.where(m, grad * g, 0.0), None, None",
            "x",
        ),
        ("torch.clamp(x * g, max=l)", "m = grad.masked_fill(x.gt(l), 0)\nreturn m * g, m * x, None", "x g"),
        ("torch.relu(x + g)", "m = grad.clone()\nm[x < 0] = 0\nreturn m, m, None", "x g"),
        ("2 * torch.clip(x - g, -l, l)", "m = grad * ~((x < -l) | (x > l)).float()\nreturn 2 * m, -2 * m, None", "x g"),
        ("torch.round(x / g).clamp(-l, l) * g", "return grad * ((x >= -l) & (x <= l)), None, None", "x"),
        ("(x * g).clamp(-l, l)", "y = (x * g).clamp(-l, l)\nreturn grad * g * (y.abs() <= l), None, None", "x"),
    ],
    ids=["product", "where", "above", "relu", "sum", "rounded", "result"],
)
def test_a_mask_of_another_value_is_found(forward: str, backward: str, arguments: str) -> None:
    one = found("x, g, l", SAVES + forward, TAKES + backward)
    assert one is not None
    assert one.arguments == tuple(arguments.split())


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("(x * g).clamp(-l, l)", "m = grad * ((x * g).abs() <= l)\nreturn m * g, (m * x).sum(dim=0), None"),
        ("(x * g).clamp(-l, l)", "y = (x * g).clamp(-l, l)\nreturn grad * g * (y.abs() < l), None, None"),
        ("(x * g).clamp(-l, l)", "return grad * g, grad * x, None"),  # a straight-through estimate
        ("(x * g).clamp(-l, l)", "return grad * g * (x.abs() <= 2 * l), None, None"),  # of other bounds
        ("(x * g).clamp(-l, l)", "return grad * g * (x * g <= l), None, None"),  # one side is left open
        ("(x * g).clamp(-l, l)", "return grad * g * ((x * g).abs() <= l) * (grad > 0), None, None"),
        ("torch.round(x / g).clamp(-l, l) * g", "m = (x / g >= -l) & (x / g <= l)\nreturn grad * m, None, None"),
        ("x.clamp(-l, l)", "return grad * (x.abs() <= l), None, grad * (x > l) - grad * (x < -l)"),
        ("torch.sign(x * g).clamp(-l, l)", "return grad * (x.abs() <= l), None, None"),
        ("x.clamp(-l, l) * g.clamp(-l, l)", "m = grad * (x.abs() <= l)\nreturn m * g, m * x, None"),
        ("(x * g).clamp(-l, l)", "m = torch.sigmoid(x)\nreturn grad * m * (x.abs() <= l), None, None"),  # a surrogate
    ],
    ids=[
        *("right", "result", "passed on", "wider", "one side", "by the gradient", "rounded", "bound", "step", "two"),
        "surrogate",
    ],
)
def test_what_is_right_or_may_be_meant_is_not(forward: str, backward: str) -> None:
    assert found("x, g, l", SAVES + forward, TAKES + backward) is None


PROGRAM = """
import torch
class Saturate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, gain, limit):
        ctx.save_for_backward(x.abs() <= limit, gain)  # compared
        return (x * gain).clamp(-limit, limit)
    @staticmethod
    def backward(ctx, grad):
        inside, gain = ctx.saved_tensors
        return grad * inside * gain, None, None
x = torch.linspace(-2, 2, 8, requires_grad=True)
Saturate.apply(x, torch.tensor(3.0), 1.0).pow(2).sum().backward()
"""


def test_the_line_that_compares_is_named() -> None:
    (answer,) = (one for one in build(recorded(PROGRAM)).answers if one.code == "backward-differs-from-forward")
    assert [cause.line for cause in answer.causes] == [line_of(PROGRAM, "# compared")]
    assert "x.abs() <= limit, and what forward clamps is x * gain" in answer.text


def test_nothing_is_said_where_it_compares_what_is_clamped() -> None:
    source = PROGRAM.replace("x.abs() <= limit", "(x * gain).abs() <= limit")
    assert [one for one in build(recorded(source)).answers if one.code == "backward-differs-from-forward"] == []
