"""Functions that torch.func takes the gradient of, and that use a module's own parameters for some they are given."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

CODE = "function-of-other-parameters"

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.func import functional_call, grad, grad_and_value, vmap
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
    def forward(self, x, features=False):
        h = self.body(x).tanh()
        return h if features else self.head(h)
net, teacher = Net(), Net().requires_grad_(False)
x, y = torch.rand(4, 1, 6), torch.zeros(4, 1, dtype=torch.long)
def loss(params, x, y):
    h = functional_call(net, params, (x,), {{"features": True}})
    return {loss}
params = {{name: value.detach() for name, value in net.named_parameters()}}
for step in range(2):
    g = {call}
"""
ONE = "grad(loss)(params, x[0], y[0])"
EACH = "vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)"


def found(loss: str, call: str) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(loss=loss, call=call))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == CODE]


@pytest.mark.parametrize("call", [ONE, EACH, "grad_and_value(loss)(params, x[0], y[0])"])
@pytest.mark.parametrize(
    "loss", ["F.cross_entropy(net.head(h), y)", "F.cross_entropy(h @ net.head.weight.T + net.head.bias, y)"]
)
def test_a_part_that_is_called_by_itself_is_named(loss: str, call: str) -> None:
    source = PROGRAM.format(loss=loss, call=call)
    assert found(loss, call) == [[line_of(source, f"return {loss}")]]


@pytest.mark.parametrize("call", [ONE, EACH])
@pytest.mark.parametrize(
    "loss",
    [
        "F.cross_entropy(functional_call(net, params, (x,)), y)",
        "F.cross_entropy(F.linear(h, params['head.weight'], params['head.bias']), y)",
        "h.pow(2).mean()",
        "F.mse_loss(teacher.head(h), teacher(x))",
    ],
)
def test_what_uses_its_arguments_or_leaves_some_out_is_left_alone(loss: str, call: str) -> None:
    assert found(loss, call) == []


FISHER = """
import torch
from torch import nn
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Linear(6, 3)
    def forward(self, x):
        return self.layers(x)
class Penalty:
    def __init__(self, model):
        self.model = model
    def loss(self, params, x, y):
        out = CALL  # change
        return F.cross_entropy(out, y)
    def rows(self, x, y):
        params = {name: value.detach() for name, value in self.model.named_parameters()}
        WAY
        return each(params, x, y)
net, x, y = Net(), torch.rand(4, 1, 6), torch.zeros(4, 1, dtype=torch.long)
net(x)
fisher = Penalty(net).rows(x, y)
"""
GIVEN = "functional_call(self.model, params, (x,))"


@pytest.mark.parametrize(
    "way",
    [
        "each = vmap(grad(self.loss), in_dims=(None, 0, 0))",
        "each = lambda params, x, y: grad(self.loss)(params, x[0], y[0])",
    ],
)
def test_the_line_of_the_function_is_named_not_the_first_call_of_the_module(way: str) -> None:
    program = FISHER.replace("WAY", way)
    (answer,) = [one for one in build(recorded(program.replace("CALL", "self.model(x)"))).answers if one.code == CODE]
    assert [cause.line for cause in answer.causes] == [line_of(program, "# change")]
    assert not [one for one in build(recorded(program.replace("CALL", GIVEN))).answers if one.code == CODE]


def test_a_lambda_is_named_by_its_own_line() -> None:
    way = "each = vmap(\n            grad(lambda params, x, y: self.model(x).sum()), in_dims=(None, 0, 0))"
    program = FISHER.replace("WAY", way)
    (answer,) = [one for one in build(recorded(program)).answers if one.code == CODE]
    assert [cause.line for cause in answer.causes] == [line_of(program, "grad(lambda")]
