"""Leaves that a Function's forward reaches past the arguments of ``apply``: what would hand them over is the cause."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LAYER = """
import torch
from torch import nn
class Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, net):
        ctx.save_for_backward(x)
        {inside}
    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x.sign(), None
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 3), nn.Linear(3, 3)
    def forward(self, x):
        {call}
model = Model()
for step in range(3):
    loss = model(torch.ones(2, 3))
    loss.backward()
"""
COMPUTES = {
    "a module that is handed over": "return net(x)",
    "in steps": "z = x * 0\n        for _ in range(3):\n            z = net(z + x)\n        return z.clone()",
    "under a no_grad of its own": "with torch.no_grad():\n            z = net(x)\n        return z",
    "a weight of it": "return x @ net.weight + net.bias",
    "a module from outside": "return model.inner(x)",
}
CALLS = {
    "in an expression": "return Solve.apply(self.outer(x), self.inner).pow(2).sum()",
    "under a name": "y = Solve.apply(self.outer(x), self.inner)\n        return y.sum()",
    "for a loss": "return Solve.apply(self.outer(x), self.inner).sum()",
}


def missed(inside: str, call: str) -> tuple[str, list[Answer]]:
    source = LAYER.format(inside=inside, call=call)
    return source, [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("inside", COMPUTES)
def test_the_call_of_apply_and_the_return_of_backward_are_the_cause(inside: str, call: str) -> None:
    source, (answer,) = missed(COMPUTES[inside], CALLS[call])
    applied, returned = line_of(source, "Solve.apply("), line_of(source, "return grad")
    assert f"apply (line {applied}) is not given it as an argument" in answer.text
    assert f"backward (line {returned}) returns gradients only for what apply is given" in answer.text
    assert [cause.line for cause in answer.causes] == [applied, returned]
    assert "model.inner.weight" in answer.text


def test_where_the_call_is_not_known_the_def_of_forward_is_named() -> None:
    call = "solve = Solve.apply\n        y = solve(self.outer(x), self.inner)\n        return y.sum()"
    source, (answer,) = missed("return net(x)", call)
    header = line_of(source, "def forward(ctx")
    assert f"Solve.forward (line {header}) computes with it, and apply is not given it" in answer.text
    assert [cause.line for cause in answer.causes] == [header, line_of(source, "return grad")]


def test_a_leaf_whose_gradient_comes_another_way_is_not_missed() -> None:
    call = "return Solve.apply(self.outer(x), self.inner).sum() + self.inner(x).sum()"
    assert missed("return net(x)", call)[1] == []


def test_what_apply_is_given_is_not_said_to_be_kept_from_it() -> None:
    call = "return Solve.apply(self.outer(x), self.inner.weight).sum()"
    answers = missed("return x @ net", call)[1]
    assert answers
    assert not any("is not given" in answer.text for answer in answers)
