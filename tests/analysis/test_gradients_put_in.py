"""Functions that put in the gradient of a penalty beside a loss that they hand on."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
FACTOR = 0.1
PART = 0.1 / 4
class Holder:
    scale = 1.0
class Penalty(torch.autograd.Function):
    @staticmethod
    def forward(ctx, loss, logits):
        ctx.save_for_backward(logits)
        ctx.logits = logits
        return {returned}
    @staticmethod
    def backward(ctx, grad):
        (logits,) = ctx.saved_tensors
        {body}
net = torch.nn.Linear(4, 6)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(2):
    optimizer.zero_grad()
    for part in range({passes}):
        logits = net(torch.randn(8, 4))
        loss = {applied}
        {then}
    optimizer.step()
"""
PUT = "return grad, logits * 0.1"
APPLIED = "Penalty.apply(logits.square().mean(), logits)"
DIVIDED = "(loss / 4).backward()"


def put_in(
    body: str = PUT, applied: str = APPLIED, then: str = DIVIDED, returned: str = "loss.clone()", passes: int = 4
) -> list[int]:
    source = SOURCE.format(
        body=body.replace("; ", "\n        "),
        applied=applied,
        then=then.replace("; ", "\n        "),
        returned=returned,
        passes=passes,
    )
    answers = [one for one in build(recorded(source)).answers if one.code == "backward-ignores-incoming"]
    lines = [cause.line for one in answers for cause in one.causes]
    assert set(lines) <= {line_of(source, "        return " + body.rpartition("return ")[2])}
    return lines


@pytest.mark.parametrize(
    "body",
    [
        PUT,
        "return grad, logits.softmax(-1)",
        "return grad * 1, ctx.logits.sign()",
        "of = torch.zeros_like(logits); of.scatter_(-1, logits.argmax(-1, keepdim=True), 0.1); return grad, of",
        "of = torch.zeros_like(logits); of[0] = logits[0] * FACTOR; return grad, of",
        "n = len(logits); of = FACTOR / n * logits; return grad, of",
    ],
)
def test_what_is_put_in_beside_a_divided_loss_is_named(body: str) -> None:
    assert len(put_in(body)) == 1


@pytest.mark.parametrize(
    ("then", "returned"),
    [
        ("loss = loss * 0.25; loss.backward()", "loss"),
        ("total = loss / 4 + net.weight.sum() * 0; total.backward()", "loss.view_as(loss)"),
        ("loss.div(4).backward()", "loss"),
    ],
)
def test_in_which_way_the_loss_is_divided_is_no_matter(then: str, returned: str) -> None:
    assert len(put_in(then=then, returned=returned)) == 1


@pytest.mark.parametrize(
    "body",
    [
        "return grad, logits * 0.1 * grad",
        "of = logits * 0.1; of.mul_(grad); return grad, of",
        "return grad, None",
        "return grad, torch.zeros_like(logits)",
        "of = torch.zeros_like(logits); return grad, of",
        "return grad, logits * Holder.scale",
        "return grad, logits * PART",
    ],
)
def test_what_has_the_factor_or_may_have_it_is_not_told(body: str) -> None:
    assert put_in(body) == []


@pytest.mark.parametrize(
    ("then", "passes"),
    [("loss.backward()", 4), (DIVIDED, 1), ("loss.backward(); (loss.detach() / 4).item()", 4)],
)
def test_what_is_put_in_whole_where_the_loss_is_whole_is_right(then: str, passes: int) -> None:
    assert put_in(then=then, passes=passes) == []


def test_what_is_put_in_for_a_layers_output_is_meant() -> None:
    assert put_in(applied="Penalty.apply(logits * 1, logits.square().mean()).mean()") == []


def test_what_is_divided_where_it_is_given_is_not_told() -> None:
    assert put_in(applied="Penalty.apply(logits.square().mean(), logits / 4)") == []
