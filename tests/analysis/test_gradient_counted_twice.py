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


ADDED = """
import torch
class Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x)
        ctx.w = w
        return x * w
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        w = ctx.w
        of_w = (grad * x).sum(0)
        {}
x, w = torch.ones(2, 3), torch.ones(3, requires_grad=True)
for part in range(2):
    Product.apply(x, w).sum().backward()
is_wrong = not bool((w.grad == 4).all())
"""
GIVES = "return grad * w, of_w"


@pytest.mark.parametrize(
    "body",
    [
        f"if w.grad is not None:\n    w.grad.add_(of_w)  # adds\n{GIVES}",
        f"if w.grad is None:\n    w.grad = torch.zeros_like(w)\nw.grad += of_w  # adds\n{GIVES}",
        f"if ctx.w.grad is not None:\n    ctx.w.grad = ctx.w.grad + of_w  # adds\n{GIVES}",
        f"with torch.no_grad():\n    if w.grad is not None:\n        w.grad.data.add_(of_w)  # adds\n{GIVES}",
        f"if ctx.needs_input_grad[1]:\n    if w.grad is None:\n        w.grad = of_w.clone()  # adds\n{GIVES}",
    ],
)
def test_a_gradient_that_is_added_and_returned(body: str) -> None:
    source = ADDED.format(body.replace("\n", "\n        "))
    recording = recorded(source + "assert is_wrong, w.grad\n")
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    (answer,) = [one for one in build(recording).answers if one.code == "gradient-counted-twice"]
    assert [cause.line for cause in answer.causes] == [line_of(source, "# adds"), line_of(source, GIVES)]
    assert answer.subject == "w"


@pytest.mark.parametrize(
    "body",
    [
        f"if w.grad is not None:\n    w.grad.add_(of_w)\n    return grad * w, None\n{GIVES}",
        f"done = w.grad is not None\nif done:\n    w.grad.add_(of_w)\nif done:\n    return grad * w, None\n{GIVES}",
        f"if w.grad is not None:\n    w.grad.add_(of_w)\n    of_w = None\n{GIVES}",
        f"if w.grad is not None:\n    of_w.add_(w.grad)\n    w.grad.zero_()\n{GIVES}",
        f"ctx.seen = of_w\nif w.grad is not None:\n    norm = (w.grad + of_w).norm()\n{GIVES}",
    ],
)
def test_a_gradient_that_is_added_or_returned_is_counted_once(body: str) -> None:
    source = ADDED.format(body.replace("\n", "\n        "))
    recording = recorded(source + "assert not is_wrong, w.grad\n")
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    assert not [one for one in build(recording).answers if one.code == "gradient-counted-twice"]
