"""Custom Functions whose backward writes, forgets or swaps gradients, and those that only look so."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SKIP = """
import torch
class Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x > 0)
        return x * (x > 0)
    @staticmethod
    def backward(ctx, grad_output):
        (open,) = ctx.saved_tensors
        {write}
        return {returned}
w = torch.linspace(-1, 1, 5, requires_grad=True)
first = w * 2
own = Gate.apply(w * 1)
after = w * 3
{use}.pow(2).sum().backward()
"""

PRODUCT = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, left, right):
        ctx.save_for_backward(left, right)
        return left * right
    @staticmethod
    def backward(ctx, incoming):
        left, right = ctx.saved_tensors
        {body}
x, y = torch.rand(3, requires_grad=True), torch.rand(3, requires_grad={needed})
{use}.backward()
"""


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def causes(source: str, code: str) -> list[int]:
    return [cause.line for one in found(source, code) for cause in one.causes]


@pytest.mark.parametrize(
    ("write", "returned"),
    [
        ("grad_output[~open] = 0", "grad_output"),
        ("grad_output.mul_(open)", "grad_output"),
        ("grad_output *= open", "grad_output"),
        ("grad_input = grad_output; grad_input[~open] = 0", "grad_input"),
        ("pass", "grad_output.masked_fill_(~open, 0)"),
    ],
)
@pytest.mark.parametrize("use", ["(first + own)", "(own.view(5, 1) + first.view(5, 1))", "(first + own - after)"])
def test_a_write_that_another_branch_gets_is_named(write: str, returned: str, use: str) -> None:
    source = SKIP.format(write=write, returned=returned, use=use)
    marker = "masked_fill_(" if write == "pass" else write
    assert causes(source, "backward-writes-incoming") == [line_of(source, marker)]


@pytest.mark.parametrize(
    ("write", "returned", "use"),
    [
        ("grad_output = grad_output.clone(); grad_output[~open] = 0", "grad_output", "(first + own)"),
        ("grad_input = grad_output * 1; grad_input[~open] = 0", "grad_input", "(first + own)"),
        ("grad_output[~open] = 0", "grad_output", "own"),
        ("grad_output[~open] = 0", "grad_output", "(own + after)"),
        ("grad_output[~open] = 0", "grad_output", "(first * own)"),
        ("grad_output[~open] = 0", "grad_output", "(own + w)"),
        ("grad_output[~open] = 0", "grad_output", "(first - own)"),
        ("ctx.needs_input_grad", "grad_output * open", "(first + own)"),
    ],
)
def test_a_write_that_no_other_branch_gets_is_not_told(write: str, returned: str, use: str) -> None:
    assert found(SKIP.format(write=write, returned=returned, use=use), "backward-writes-incoming") == []


def product(body: str, use: str = "Product.apply(x, y).pow(2).sum()", needed: str = "True") -> str:
    return PRODUCT.format(body=body.replace("; ", "\n        "), use=use, needed=needed)


@pytest.mark.parametrize(
    "body",
    [
        "return right * 1.0, incoming * left",
        "of_left = right * 1.0; return of_left, incoming * left",
        "of_left = 2 * right; of_left = of_left + 1; of_right = incoming * left; return of_left, of_right",
    ],
)
def test_a_gradient_that_is_computed_without_the_incoming_one_is_named(body: str) -> None:
    lines = causes(product(body), "backward-ignores-incoming")
    assert line_of(product(body), "return " + body.rpartition("return ")[2]) in lines


@pytest.mark.parametrize(
    ("body", "use", "needed"),
    [
        ("return incoming * right, incoming * left", "Product.apply(x, y).pow(2).sum()", "True"),
        ("scale = incoming.sum(); return scale * right, scale * left", "Product.apply(x, y).pow(2).sum()", "True"),
        ("return right * 1.0, left * 1.0", "Product.apply(x, y).sum()", "True"),
        ("return incoming * right, left * 1.0", "Product.apply(x, y).pow(2).sum()", "False"),
        ("return incoming * right, None", "Product.apply(x, y).pow(2).sum()", "True"),
        ("return incoming * right, torch.zeros_like(left)", "Product.apply(x, y).pow(2).sum()", "True"),
        (
            "out = torch.empty_like(left); out.copy_(incoming * right); return out * 1, incoming * left",
            "Product.apply(x, y).pow(2).sum()",
            "True",
        ),
        (
            "of = right * 0; of += incoming * right; return of, incoming * left",
            "Product.apply(x, y).pow(2).sum()",
            "True",
        ),
    ],
)
def test_a_gradient_that_has_its_factor_or_needs_none_is_not_told(body: str, use: str, needed: str) -> None:
    assert found(product(body, use, needed), "backward-ignores-incoming") == []


LOG_COSH = """
import torch
class LogCosh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, guess, target):
        ctx.save_for_backward(guess - target)
        ctx.slope = torch.tanh(guess - target)
        return (guess - target).cosh().log()
    @staticmethod
    def backward(ctx, incoming):
        (apart,) = ctx.saved_tensors
        {body}
w, weight = torch.rand(4, requires_grad=True), torch.rand(4)
{use}.backward()
"""


@pytest.mark.parametrize(
    "body",
    [
        "slope = torch.tanh(apart); return slope, -slope",
        "return torch.tanh(apart), None",
        "slope = None; if ctx.needs_input_grad[0]: slope = apart.tanh(); return slope, None",
        "return (apart > 0).float(), None",
        "return torch.ones_like(apart), None",
        "return ctx.slope, None",
    ],
)
@pytest.mark.parametrize("use", ["(LogCosh.apply(w, weight) * weight).sum()", "LogCosh.apply(w, weight).mean()"])
def test_a_derivative_that_is_no_product_is_named_at_its_return(body: str, use: str) -> None:
    source = LOG_COSH.format(body=body.replace("; ", "\n        "), use=use)
    assert causes(source, "backward-ignores-incoming") == [
        line_of(source, "        return " + body.rpartition("return ")[2])
    ]


@pytest.mark.parametrize(
    ("body", "use"),
    [
        ("slope = torch.tanh(apart); return slope, -slope", "LogCosh.apply(w, weight).sum()"),
        ("slope = torch.tanh(apart); return incoming * slope, None", "(LogCosh.apply(w, weight) * weight).sum()"),
        ("return -incoming, None", "(LogCosh.apply(w, weight) * weight).sum()"),
        ("return incoming, None", "(LogCosh.apply(w, weight) * weight).sum()"),
        ("return torch.zeros_like(apart), None", "(LogCosh.apply(w, weight) * weight).sum()"),
        ("return None if incoming is None else incoming * apart, None", "(LogCosh.apply(w, weight) * weight).sum()"),
        (
            "if (incoming == 1).all():\n            return apart.tanh(), None; return incoming * apart.tanh(), None",
            "(LogCosh.apply(w, weight) * weight).sum()",
        ),
    ],
)
def test_a_derivative_that_has_its_factor_or_needs_none_is_not_told(body: str, use: str) -> None:
    source = LOG_COSH.format(body=body.replace("; ", "\n        "), use=use)
    assert found(source, "backward-ignores-incoming") == []


def test_a_gradient_that_is_put_in_for_what_forward_does_not_give_is_meant() -> None:
    source = """
import torch
class WithPenalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, penalty):
        assert penalty.numel() == 1
        ctx.save_for_backward(penalty)
        return x
    @staticmethod
    def backward(ctx, incoming):
        (penalty,) = ctx.saved_tensors
        return incoming, torch.ones_like(penalty) * 0.5
w = torch.rand(4, requires_grad=True)
WithPenalty.apply(w * 2, (w * w).sum()).pow(2).sum().backward()
"""
    assert found(source, "backward-ignores-incoming") == []
    assert found(source.replace("return x", "return x * penalty"), "backward-ignores-incoming") != []


BOTH = """
import torch
class Wave(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin(), x.cos()
    @staticmethod
    def backward(ctx, of_sin, {second}):
        (x,) = ctx.saved_tensors
        return {returned}
w = torch.rand(3, requires_grad=True)
sin, cos = Wave.apply(w)
{use}.backward()
"""


@pytest.mark.parametrize("use", ["(sin * cos).sum()", "(sin.pow(2) + cos.exp()).sum()"])
def test_a_gradient_of_one_output_that_is_never_used_is_named_at_the_return(use: str) -> None:
    source = BOTH.format(second="of_cos", returned="of_sin * x.cos()", use=use)
    (answer,) = found(source, "backward-ignores-incoming")
    assert [cause.line for cause in answer.causes] == [line_of(source, "return of_sin")]
    assert "of_cos" in answer.text


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (["of_x = of_sin * x.cos()", "return of_x"], [0]),
        (["of_x = None", "if True: of_x = of_sin * x.cos()", "return of_x"], [1]),
        (["of_x = of_sin * 1", "of_x = of_x * x.cos()", "return of_x"], [0, 1]),
        (["cosine = x.cos()", "return of_sin * cosine"], [1]),
        (["shape = of_sin.shape; cosine = x.cos()", "of_x = (of_sin * cosine).view(shape)", "return of_x + 0"], [1]),
        (["if x is None: return None", "of_x = of_sin * x.cos()", "return of_x"], [2]),
    ],
)
def test_the_statements_that_compute_without_it_are_named(body: list[str], named: list[int]) -> None:
    source = BOTH.format(second="of_cos", returned="0", use="(sin * cos).sum()")
    source = source.replace("return 0", "\n        ".join(body))
    (answer,) = found(source, "backward-ignores-incoming")
    assert [cause.line for cause in answer.causes] == [line_of(source, body[at]) for at in named]
    lines = " and ".join(f"{cause.line}" for cause in answer.causes)
    assert answer.text.startswith(f"Line{'s' * (len(named) > 1)} {lines}: Wave's backward computes")


@pytest.mark.parametrize(
    ("second", "returned", "use"),
    [
        ("of_cos", "of_sin * x.cos() - of_cos * x.sin()", "(sin * cos).sum()"),
        ("of_cos", "of_sin * x.cos()", "(sin * 2).sum()"),
        ("of_cos", "of_sin * x.cos()", "(sin * cos.detach()).sum()"),
        ("of_cos", "of_sin * x.cos()", "(sin * (cos > 0)).sum()"),
        ("_", "of_sin * x.cos()", "(sin * cos).sum()"),
        ("*others", "of_sin * x.cos()", "(sin * cos).sum()"),
    ],
)
def test_an_output_without_a_part_in_the_loss_needs_no_gradient(second: str, returned: str, use: str) -> None:
    assert found(BOTH.format(second=second, returned=returned, use=use), "backward-ignores-incoming") == []


@pytest.mark.parametrize("names", ["grad_left, grad_right", "left_grad, right_grad", "dleft, dright"])
def test_gradients_in_each_others_place_are_named(names: str) -> None:
    left, right = names.split(", ")
    body = f"{left} = incoming * right; {right} = incoming * left; return {right}, {left}"
    assert causes(product(body), "backward-returns-swapped") == [line_of(product(body), f"return {right}")]
    assert found(product(body.replace(f"return {right}, {left}", f"return {names}")), "backward-returns-swapped") == []


def test_names_that_say_of_no_argument_are_not_told() -> None:
    body = "first = incoming * right; second = incoming * left; return first, second"
    assert found(product(body), "backward-returns-swapped") == []


@pytest.mark.parametrize(
    "body",
    [
        "return incoming * left, incoming * right",
        "of = left * incoming; return of, incoming * left",
        "return incoming * right, right * incoming * right",
    ],
)
def test_a_factor_that_gets_its_own_values_is_named(body: str) -> None:
    source = product(body)
    assert causes(source, "backward-returns-swapped") == [line_of(source, "return " + body.rpartition("return ")[2])]


@pytest.mark.parametrize(
    "body",
    [
        "return incoming * right, incoming * left",
        "return right * 2 * incoming, incoming * left",
        "return incoming * left.flip(0), incoming * left",
    ],
)
def test_a_factor_that_gets_anything_else_is_not_told(body: str) -> None:
    assert found(product(body), "backward-returns-swapped") == []


def test_saved_tensors_that_are_taken_out_under_each_others_names_are_named() -> None:
    source = product("return incoming * right, incoming * left").replace("left, right = ctx", "right, left = ctx")
    assert causes(source, "backward-returns-swapped") == [line_of(source, "right, left = ctx")]
    renamed = source.replace("right, left = ctx", "one, other = ctx").replace(
        "* right, incoming * left", "* other, one"
    )
    assert found(renamed, "backward-returns-swapped") == []


FORWARD = """
import torch
class Clip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        {write}
        return {returned}
    @staticmethod
    def backward(ctx, grad):
        return grad
w = torch.linspace(-2, 2, 5, requires_grad=True)
h = w * 2
y = Clip.apply({given})
(y + {other}).sum().backward()
"""


@pytest.mark.parametrize(
    ("write", "returned", "given", "other", "count"),
    [
        ("x.clamp_(-1, 1)", "x * 1", "h", "h", 1),
        ("x[0] = 0", "x * 1", "h", "h.exp()", 1),
        ("x.clamp_(-1, 1)", "x * 1", "h", "w", 0),
        ("x.clamp_(-1, 1)", "x * 1", "h.clone()", "h", 0),
        ("x = x * 1; x.clamp_(-1, 1)", "x", "h", "h", 0),
        ("x.clamp_(-1, 1); ctx.mark_dirty(x)", "x", "h", "h", 0),
    ],
)
def test_a_forward_that_writes_what_is_used_later_is_named(
    write: str, returned: str, given: str, other: str, count: int
) -> None:
    source = FORWARD.format(write=write, returned=returned, given=given, other=other)
    assert causes(source, "forward-writes-argument") == [line_of(source, write)] * count
