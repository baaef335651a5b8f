"""Functions whose backward draws the random factor anew that their forward multiplied by."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
def mask(t, p):
    return (torch.rand_like(t) > p).float() / (1 - p)
class Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, p):
        ctx.p = p
        FORWARD
    @staticmethod
    def backward(ctx, grad):
        BACKWARD
w = torch.ones(4, 3, requires_grad=True)
Drop.apply(w.exp(), 0.5).sum().backward()
"""
FORWARD = "keep = torch.rand_like(x) > p; return x * keep"
BACKWARD = "keep = torch.rand_like(grad) > ctx.p; return grad * keep, None"


def lines(forward: str = FORWARD, backward: str = BACKWARD) -> list[int]:
    program = PROGRAM.replace("FORWARD", forward).replace("BACKWARD", backward)
    answers = build(recorded(program)).answers
    found = [one for one in answers if one.code == "backward-differs-from-forward" and "draws" in one.text]
    here = line_of(program, backward)
    assert all([cause.line for cause in one.causes] == [here] for one in found)
    return [here] * len(found)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (FORWARD, BACKWARD),
        ("return F.dropout(x, p)", "return F.dropout(grad, ctx.p), None"),
        ("return x * mask(x, p)", "return grad.mul(mask(grad, ctx.p)), None"),
        ("return x * torch.bernoulli(torch.full_like(x, p))", "return grad * torch.bernoulli(ctx.p + 0 * w), None"),
        ("return x * (1 + torch.randn_like(x))", "return grad * (1 + torch.randn_like(grad)), None"),
        ("keep = torch.rand(x.shape) > p; return torch.where(keep, x, 0)", BACKWARD),
        ("return x.masked_fill(torch.rand(x.shape) > p, 0)", BACKWARD),
        (FORWARD, "grad = grad.clone(); grad[torch.rand(grad.shape) < ctx.p] = 0; return grad, None"),
        (FORWARD, "grad = grad.clone(); grad *= torch.rand(grad.shape) < ctx.p; return grad, None"),
    ],
)
def test_the_line_of_backward_that_draws_is_named(forward: str, backward: str) -> None:
    assert len(lines(forward, backward)) == 1


ROUNDED = "y = x * 8; low = y.floor(); return (low + (torch.rand_like(y) < y - low)) / 8"


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        ("keep = torch.rand_like(x) > p; ctx.save_for_backward(keep); return x * keep",
         "keep, = ctx.saved_tensors; return grad * keep, None"),
        ("ctx.state = torch.get_rng_state(); " + FORWARD, "torch.set_rng_state(ctx.state); " + BACKWARD),
        ("torch.manual_seed(3); " + FORWARD, "torch.manual_seed(3); " + BACKWARD),
        ("return x.view_as(x)", BACKWARD),
        (FORWARD, "return grad, None"),
        (ROUNDED, "return torch.floor(grad * 8 + torch.rand_like(grad)) * 0.125, None"),
        ("return x + torch.randn_like(x)", "return grad + 0.1 * torch.randn_like(grad), None"),
        ("return x * torch.bernoulli(torch.sigmoid(x))", "return grad * torch.bernoulli(torch.sigmoid(grad)), None"),
    ],
    ids=["kept", "state", "seed", "gradient-only", "forward-only", "rounding", "added", "of-the-values"],
)  # fmt: skip
def test_the_same_numbers_or_others_that_are_no_factor_are_not_blamed(forward: str, backward: str) -> None:
    assert lines(forward, backward) == []


def test_a_backward_that_never_ran_is_not_blamed() -> None:
    program = PROGRAM.replace("FORWARD", FORWARD).replace("BACKWARD", BACKWARD).replace(".backward()\n", "\n")
    assert [one.code for one in build(recorded(program)).answers] == []
