"""Functions whose forward writes in place what it has saved."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
class Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, gate):
        gate = torch.sigmoid(gate)
        {}
    @staticmethod
    def backward(ctx, grad):
        {}
        return grad * gate, grad * value * gate * (1 - gate)
w = torch.linspace(-1, 1, 5, requires_grad=True)
v = torch.linspace(-2, 1, 5, requires_grad=True)
Gated.apply(w * 1, v * 1).pow(2).sum().backward()
"""
ONE = """
import torch
class One(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        {}
    @staticmethod
    def backward(ctx, grad):
        (kept,) = ctx.saved_tensors
        return {}
w = torch.linspace(0.1, 1, 5, requires_grad=True)
One.apply({}).pow(2).sum().backward()
"""
SAVED = "ctx.save_for_backward(value, gate); "
TAKEN = "value, gate = ctx.saved_tensors"


def told(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "gradient-silently-wrong"]


@pytest.mark.parametrize(
    ("forward", "taken"),
    [
        (SAVED + "return gate.mul_(value)", TAKEN),
        (SAVED + "gate *= value; return gate", TAKEN),
        (SAVED + "out = gate; out.mul_(value); return out", TAKEN),
        (SAVED + "out = gate.detach(); return out.mul_(value)", TAKEN),
        (SAVED + "torch.mul(gate, value, out=gate); return gate", TAKEN),
        (SAVED + "gate.data.mul_(value); return gate * 1", TAKEN),
        (SAVED + "return value.mul_(gate)", TAKEN),
        ("ctx.value = value; ctx.gate = gate; return gate.mul_(value)",
         "value, gate = ctx.value, ctx.gate"),
    ],
)  # fmt: skip
def test_a_write_after_which_backward_is_given_other_values_is_named(forward: str, taken: str) -> None:
    lines = told(SOURCE.format(forward, taken))
    assert lines == [[6]]


def test_the_write_and_what_saves_are_on_their_lines() -> None:
    forward = (
        SAVED.replace("; ", "\n        ") + "out = value * 1\n        out.add_(1)\n        return gate.mul_(value)"
    )
    assert told(SOURCE.format(forward, TAKEN)) == [[9, 6]]


@pytest.mark.parametrize(
    "forward",
    [
        SAVED + "return gate * value",
        SAVED + "gate = gate.clone(); return gate.mul_(value)",
        SAVED + "out = gate.clone(); return out.mul_(value)",
        SAVED + "gate = gate * value; return gate",
        "ctx.save_for_backward(value, gate * 1); return gate.mul_(value)",
        "out = gate * 1; " + SAVED + "return out.mul_(value)",
    ],
)
def test_what_is_saved_and_not_written_is_none(forward: str) -> None:
    assert told(SOURCE.format(forward, TAKEN)) == []


@pytest.mark.parametrize(
    ("forward", "backward", "given"),
    [
        ("ctx.save_for_backward(x); ctx.mark_dirty(x); return x.exp_()", "grad * kept", "w * 1"),
        ("ctx.save_for_backward(x); ctx.mark_dirty(x); return x.sqrt_()", "grad / (2 * kept)", "w * 1"),
        ("ctx.save_for_backward(x); ctx.mark_dirty(x); return x.tanh_()", "grad * (1 - kept * kept)", "w * 1"),
        ("ctx.save_for_backward(x); ctx.mark_dirty(x); return x.clamp_(min=0)", "grad * (kept > 0)", "w * 1"),
        ("out = torch.empty_like(x); ctx.save_for_backward(out); out.copy_(x.exp()); return out", "grad * kept", "w"),
        ("y = x * 1; ctx.save_for_backward(y); y.exp_(); return y", "grad * kept", "w"),
        ("ctx.save_for_backward(x); y = x.exp(); return y.mul_(2)", "2 * grad * kept.exp()", "w"),
    ],
)
def test_a_write_that_backward_reckons_with_is_meant(forward: str, backward: str, given: str) -> None:
    assert told(ONE.format(forward, backward, given)) == []


def test_a_write_that_backward_does_not_reckon_with_is_named_where_the_argument_is_written() -> None:
    forward = "ctx.save_for_backward(x); ctx.mark_dirty(x); return x.tanh_()"
    assert told(ONE.format(forward, "grad * (1 - kept.tanh() ** 2)", "w * 1")) == [[5]]
