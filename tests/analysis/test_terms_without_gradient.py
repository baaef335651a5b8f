"""Terms of a loss that change its value alone: numbers taken out of tensors, gradients without a graph."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

NUMBER = """
import torch
w = torch.ones(3, requires_grad=True)
def loss_of(w, weight=0.5):
    error = (w * 2 - 1).pow(2).sum()
    size = w.norm()
    {}
    return loss
loss_of(w).backward()
"""

PENALTY = """
import torch
critic = torch.nn.Linear(2, 1)
x = torch.ones(4, 2, requires_grad=True)
(slope,) = torch.autograd.grad(critic(x).sum(), x{})
penalty = (slope.norm(dim=1) - 1).pow(2).mean()
loss = critic(x).mean() + 10 * penalty
loss.backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    "body",
    [
        "size = w.norm().item(); loss = error + weight * size".replace("; ", "\n    "),
        "loss = error + weight * w.norm().item()",
        "loss = error\n    loss += 2 * float(w.norm())",
    ],
)
def test_the_line_that_takes_the_number_out_is_the_cause(body: str) -> None:
    source = NUMBER.replace("    size = w.norm()\n", "").format(body)
    taken = "float(" if "float" in body else ".item()"
    assert lines(source) == [line_of(source, taken)]


@pytest.mark.parametrize(
    "body",
    [
        "loss = error + weight * size",
        "n = size.item()\n    loss = error * n + weight",
        "loss = error * size.item() + 3",
        "n = size.item()\n    loss = error + weight",
        "n = size.detach().item()\n    loss = error + 1",
        "n = w.detach().norm().item()\n    loss = error + n",
    ],
)
def test_tensors_weights_and_what_had_no_graph_are_none(body: str) -> None:
    assert lines(NUMBER.format(body)) == []


@pytest.mark.parametrize(("graph", "count"), [("", 1), (", create_graph=True", 0)])
def test_a_penalty_on_gradients_needs_their_graph(graph: str, count: int) -> None:
    source = PENALTY.format(graph)
    assert lines(source) == [line_of(source, "autograd.grad")] * count
