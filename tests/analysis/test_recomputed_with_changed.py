"""Backwards that compute anew with weights which a step changed since forward, and such as have the same ones."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

GIVEN = """
import torch
from torch import nn
class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, layer, *weights):
        ctx.layer = layer
        ctx.save_for_backward({saved})
        with torch.no_grad():
            return torch.tanh(layer(x))
    @staticmethod
    def backward(ctx, out):
        x = ctx.saved_tensors[0]
        layer = ctx.layer
        with torch.enable_grad():
            again = torch.tanh(layer(x))  # again
            grads = torch.autograd.grad(again, list(layer.parameters()), out)
        return None, None, *grads
layer, head = nn.Linear(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD({held}, lr=0.1)
for step in range(3):
    x = torch.rand(2, 3)
    first, second = (head(Again.apply(x, layer, *layer.parameters())).mean() for _ in range(2))
    optimizer.zero_grad()
    first.backward()
    {between}
    second.backward()
    optimizer.step()
"""
INSIDE = """
import torch
from torch import nn
class Again(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, layer):
        ctx.layer = layer
        ctx.save_for_backward(x)
        with torch.no_grad():
            return layer(x)
    @staticmethod
    def backward(ctx, out):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            again = ctx.layer(x)  # again
        torch.autograd.backward(again, out)
        return x.grad, None
layer = nn.Linear(3, 3)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(3):
    x = torch.rand(2, 3, requires_grad=True)
    first, second = (Again.apply(x, layer).pow(2).mean() for _ in range(2))
    first.backward()
    {between}
    second.backward()
    optimizer.step()
"""
STEP = "optimizer.step()  # between"
ALL = "[*layer.parameters(), *head.parameters()]"


def causes(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "gradient-silently-wrong"]
    return [cause.line for answer in answers for cause in answer.causes]


@pytest.mark.parametrize(
    "source", [GIVEN.format(saved="x", held=ALL, between=STEP), INSIDE.format(between=STEP)], ids=["given", "inside"]
)
def test_a_step_between_forward_and_what_computes_it_anew(source: str) -> None:
    assert causes(source) == [line_of(source, "# again"), line_of(source, "# between")]


@pytest.mark.parametrize(
    "source",
    [
        GIVEN.format(saved="x", held=ALL, between="pass"),
        GIVEN.format(saved="x", held="[head.bias]", between=STEP),
        GIVEN.format(saved="x, *weights", held=ALL, between=STEP),
        INSIDE.format(between="pass"),
        INSIDE.format(between="second = Again.apply(x, layer).pow(2).mean()"),
        INSIDE.format(between="optimizer.step()\n    second = Again.apply(x, layer).pow(2).mean()"),
    ],
    ids=["no step", "other weights", "checked by autograd", "no step inside", "computed later", "anew after the step"],
)
def test_weights_that_are_those_of_forward_or_that_autograd_checks(source: str) -> None:
    assert causes(source) == []
