"""A Function that fills ``.grad`` of a leaf by a pass of its own and returns that ``.grad``: torch doubles it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
class Scores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, scale, w):
        {keeps}
        return hidden @ w * scale
    @staticmethod
    def backward(ctx, grad):
        hidden, w = {unpacks}
        hidden = hidden.detach().requires_grad_()
        with torch.enable_grad():
            out = hidden @ w * 2
        {passes}
        return hidden.grad, None, {gives}
x, w = torch.ones(2, 3, requires_grad=True), torch.ones(3, requires_grad=True)
Scores.apply({hidden}, 2, w).sum().backward()
doubled = bool((w.grad == 8).all())
assert doubled == {doubles}, w.grad
"""
DOUBLING = {
    "keeps": "ctx.save_for_backward(hidden, w)",
    "unpacks": "ctx.saved_tensors",
    "passes": "torch.autograd.backward(out, grad)",
    "gives": "w.grad",
    "hidden": "x * 1",
    "doubles": True,
}


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"keeps": "ctx.hidden = hidden; ctx.w = w", "unpacks": "ctx.hidden, ctx.w", "gives": "ctx.w.grad"},
        {"passes": "out.backward(grad); of_w = w.grad", "gives": "of_w"},
    ],
    ids=["saved tensors", "attributes of the ctx", "by a name"],
)
def test_the_pass_within_is_the_cause(other: dict[str, object]) -> None:
    source = SOURCE.format(**{**DOUBLING, **other})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    (answer,) = [one for one in build(recording).answers if one.code == "gradient-counted-twice"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "with torch.enable_grad") + 2]
    assert answer.subject == "w"


@pytest.mark.parametrize(
    "other",
    [
        {"unpacks": "ctx.saved_tensors; w = w.detach().requires_grad_()"},
        {"keeps": "ctx.save_for_backward(hidden, w.detach().requires_grad_())"},
        {"passes": "torch.autograd.backward(out, grad); of_w = w.grad; w.grad = None", "gives": "of_w"},
        {"gives": "None"},
        {"passes": "hidden.grad, of_w = torch.autograd.grad(out, (hidden, w), grad)", "gives": "of_w"},
    ],
    ids=["a copy", "a copy was saved", "it clears it", "it leaves it to the pass within", "grad"],
)
def test_it_is_silent_where_the_gradient_is_counted_once(other: dict[str, object]) -> None:
    recording = recorded(SOURCE.format(**{**DOUBLING, "doubles": False, **other}))
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    assert "gradient-counted-twice" not in {one.code for one in build(recording).answers}
