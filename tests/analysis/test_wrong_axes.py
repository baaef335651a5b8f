"""Backwards that take the gradients of rows for those of columns: told where the shapes and forward's calls say so."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

CODE = "backward-differs-from-forward"


def told(forward: str, keeps: str, backward: str, *, loss: str = "(losses * weights).sum()") -> list[int]:
    source = f"""\
import torch

class Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, labels):
        rows = torch.arange(len(labels))
        probs = x.softmax(dim=-1)
        grads = probs.clone()
        grads[rows, labels] -= 1.0
        ctx.save_for_backward({keeps})
        return {forward}

    @staticmethod
    def backward(ctx, grad):
        (saved,) = ctx.saved_tensors
        {backward}

torch.manual_seed(0)
w = torch.randn(5, 5, requires_grad=True)
weights = torch.rand(5)
losses = Rows.apply(w * 1, torch.randint(5, (5,)))
loss = {loss}
loss.backward()
"""
    lines = [cause.line for one in build(recorded(source)).answers if one.code == CODE for cause in one.causes]
    assert set(lines) <= {line_of(source, "saved_tensors") + 1}
    return lines


@pytest.mark.parametrize(
    ("forward", "keeps", "backward"),
    [
        ("-probs[rows, labels].log()", "grads", "return saved * grad, None"),
        ("x.logsumexp(dim=1) - x.gather(1, labels[:, None]).squeeze(1)", "grads", "return grad * saved, None"),
        (
            "torch.nn.functional.cross_entropy(x, labels, reduction='none')",
            "grads",
            "return torch.mul(saved, grad), None",
        ),
        ("x.pow(2).sum(-1)", "x", "given = 2 * saved * grad\n        return given, None"),
        ("torch.sum(x.square(), 1)", "x", "return grad * (2.0 * saved), None"),
    ],
)
def test_a_product_along_the_columns_of_what_is_given_for_each_row(forward: str, keeps: str, backward: str) -> None:
    assert told(forward, keeps, backward)


@pytest.mark.parametrize(
    ("forward", "keeps", "backward"),
    [
        ("-probs[rows, labels].log()", "grads", "return saved * grad[:, None], None"),
        ("-probs[rows, labels].log()", "grads", "return saved * grad.unsqueeze(1), None"),
        ("-probs[rows, labels].log()", "grads", "grad = grad.view(-1, 1)\n        return saved * grad, None"),
        ("-probs[rows, labels].log()", "grads", "return (saved.t() * grad).t(), None"),
        # one number for each column, and of a matrix that is turned about
        ("x.pow(2).sum(dim=0)", "x", "return 2 * saved * grad, None"),
        ("x.t().pow(2).sum(dim=1)", "x", "return 2 * saved * grad, None"),
        ("x.pow(2).sum(1, keepdim=True)", "x", "return 2 * saved * grad, None"),
    ],
)
def test_a_product_along_the_axis_of_the_output_is_right(forward: str, keeps: str, backward: str) -> None:
    assert told(forward, keeps, backward) == []


def test_gradients_that_are_all_one_number_fit_either_axis() -> None:
    assert told("-probs[rows, labels].log()", "grads", "return saved * grad, None", loss="losses.mean()") == []
