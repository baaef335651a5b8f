"""Functions called without ``apply``, and operations without a derivative."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ROUND = """
import torch
class Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.round(x)
    @staticmethod
    def backward(ctx, gradient):
        {backward}
        return gradient
w = torch.rand(3, requires_grad=True)
h = w * 3
y = {call}
(y * w).sum().backward()
"""

MISSING = """
import torch
w = torch.rand(3, requires_grad=True) + 1
b = {call}
c = b + 1
(c * w).sum().backward()
"""


def found(source: str) -> list[tuple[str, list[int]]]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    return [(one.code, [cause.line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize("call", ["Round.forward(None, h)", "Round().forward(None, h)"])
def test_a_forward_that_is_called_by_itself_is_named_by_the_call(call: str) -> None:
    source = ROUND.format(call=call, backward="pass")
    assert found(source) == [("forward-called-directly", [line_of(source, call)])]


@pytest.mark.parametrize(
    ("call", "backward"),
    [
        ("Round.apply(h)", "pass"),
        ("Round.apply(h)", "with torch.enable_grad(): Round.forward(ctx, gradient.detach().requires_grad_())"),
        ("h + Round.forward(None, h.detach())", "pass"),
    ],
)
def test_apply_and_calls_of_what_has_no_graph_are_not_told(call: str, backward: str) -> None:
    assert found(ROUND.format(call=call, backward=backward)) == []


@pytest.mark.parametrize("call", ["w // 0.3", "torch.floor_divide(w, 0.3)", "torch.heaviside(w, w)"])
def test_an_operation_without_a_derivative_is_named_where_it_is_used(call: str) -> None:
    source = MISSING.format(call=call)
    assert found(source) == [("no-derivative", [line_of(source, call)])]


def test_one_that_gets_no_gradient_is_not_told() -> None:
    assert found(MISSING.format(call="w.detach() // 0.3")) == []
