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


AGAIN = """
import torch
from torch import nn
class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, run, x):
        ctx.run, ctx.x = run, x
        with torch.no_grad():
            return run(x)
    @staticmethod
    def backward(ctx, grad):
        x = ctx.x.detach().requires_grad_()
        with torch.enable_grad():
            ctx.run(x).backward(grad)
        return None, x.grad
{other}
class Layer(nn.Module):
    def __init__(self, *sizes):
        super().__init__()
        self.inner = nn.Linear(*sizes)
    def forward(self, x):
        return self.inner(x).tanh()
first, second, last = Layer(3, 3), Layer(3, 3), nn.Linear(3, 1)
def model(x):
    for layer in (first, second):
        x = {call}
    return last(x.mean(0))
for step in range(3):
    {loss}.backward()
"""
APPLIED = "Again.apply(layer, x)"


@pytest.mark.parametrize("other", ["", "class Sign(torch.autograd.Function):\n    pass"])
def test_the_call_of_a_function_that_was_given_nothing_that_requires_grad(other: str) -> None:
    source = AGAIN.format(call=APPLIED, loss="model(torch.ones(2, 3)).sum()", other=other)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    line = line_of(source, APPLIED)
    assert f"Again.apply (line {line}) was given no tensor that requires grad" in answer.text
    assert [cause.line for cause in answer.causes] == [line]
    assert "first.inner.* (2) and second.inner.* (2)" in answer.text


@pytest.mark.parametrize(
    ("call", "loss"),
    [
        (APPLIED, "model(torch.ones(2, 3, requires_grad=True)).sum()"),
        (f"{APPLIED} if x.requires_grad else layer(x)", "model(torch.ones(2, 3)).sum()"),
    ],
)
def test_a_function_that_is_given_what_requires_grad_is_none(call: str, loss: str) -> None:
    assert "leaf-unreached" not in {
        one.code for one in build(recorded(AGAIN.format(call=call, loss=loss, other=""))).answers
    }


@pytest.mark.parametrize(
    ("call", "loss"),
    [
        ("layer(x).detach()", "model(torch.ones(2, 3)).sum()"),
        ("Again.apply(layer, x.requires_grad_()).detach()", "model(torch.ones(2, 3)).sum()"),
    ],
)
def test_a_cut_behind_it_is_not_put_down_to_the_function(call: str, loss: str) -> None:
    answers = build(recorded(AGAIN.format(call=call, loss=loss, other=""))).answers
    assert not any("was given no tensor that requires grad" in one.text for one in answers)


TURNS = """
import torch
class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        return x @ layer.weight.T
    @staticmethod
    def backward(ctx, grad):
        return grad @ ctx.layer.weight, None
class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.rand(3, 3))
    def forward(self, x):
        return Scaled.apply(x, self)  # apply
maker, critic = torch.nn.Sequential(torch.nn.Linear(3, 3), Layer()), torch.nn.Linear(3, 1)
for_maker = torch.optim.SGD(maker.parameters(), lr=0.1)
for_critic = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(3):
    made = maker(torch.rand(4, 3))
    for_critic.zero_grad()
    critic(made.detach()).mean().backward()
    for_critic.step()
    for_maker.zero_grad()
    critic(made).mean().backward()
    for_maker.step()
"""


def test_a_pass_for_others_is_not_the_one_that_should_have_reached_it() -> None:
    found = [one for one in build(recorded(TURNS)).answers if one.code == "leaf-unreached"]
    assert [cause.line for one in found for cause in one.causes][:1] == [line_of(TURNS, "# apply")]
    assert "detach" not in " ".join(one.text for one in found)
    plain = TURNS.replace("Scaled.apply(x, self)", "x @ self.weight.T")
    assert [one for one in build(recorded(plain)).answers if one.code == "leaf-unreached"] == []
