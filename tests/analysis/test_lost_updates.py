"""Updates that the parameters never get: names bound anew, gradients cleared before the step."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
w, b = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
kept = []
for step in range(3):
    loss = (torch.ones(3) @ w + b).sum()
    loss.backward()
    with torch.no_grad():
        for p in (w, b):
            {}
    w.grad = b.grad = None
"""

NAMED = """
import torch
w = torch.zeros(3, requires_grad=True)
for step in range(2):
    loss = (torch.ones(3) @ w - 1) ** 2
    loss.backward()
    with torch.no_grad():
        w = w - 0.1 * w.grad
"""

BETWEEN = """
import torch
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(layer.parameters())
for step in range(4):
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
print(layer.weight.detach())
"""


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def test_an_update_that_the_loops_variable_gets_is_lost() -> None:
    source = LOOP.format("p = p - 0.1 * p.grad")
    (answer,) = found(source, "update-lost")
    assert answer.causes[0].line == line_of(source, "p = p -")


@pytest.mark.parametrize(
    "update",
    [
        "p -= 0.1 * p.grad",
        "p = p - 0.1 * p.grad; kept.append(p.norm())",
        "p.copy_(p - 0.1 * p.grad)",
        "q = p - 0.1 * p.grad",
        "p = p - 0.1 * p.grad; w.mul_(0.9); b.mul_(0.9)",
    ],
)
def test_what_is_written_used_or_given_to_another_name_is_not(update: str) -> None:
    assert not found(LOOP.format(update), "update-lost")


def test_a_leaf_whose_name_is_bound_anew_under_no_grad_is_named_before_the_region() -> None:
    (answer,) = found(NAMED, "backward-no-grad")
    assert [cause.line for cause in answer.causes] == [line_of(NAMED, "w = w -"), line_of(NAMED, "with torch")]
    assert "gives the name w to a new tensor" in answer.text


def test_a_view_of_a_weight_that_is_taken_later_is_no_update() -> None:
    (answer,) = found(BETWEEN, "never-stepped")
    assert answer.causes[0].line == line_of(BETWEEN, "zero_grad()")
