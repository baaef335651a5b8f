"""Gradients with a graph in training mode only (``create_graph=self.training``), of a model that eval() left."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FORCES = """
import torch
from torch import nn
class Forces(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    def forward(self, x):
        x.requires_grad_(True)
        energy = self.energy(x).sum()
        return energy, torch.autograd.grad(energy, x, {asked})[0]
model = Forces()
{before}
for epoch in range(3):
    {first}
    energy, force = model(torch.rand(5, 3))
    loss = {loss}
    loss.backward()
    model.eval()  # left
"""
KEPT = "create_graph=self.training, retain_graph=True"
BOTH = "(energy - 1) ** 2 + 0.1 * force.pow(2).mean()"


def found(
    code: str, asked: str, loss: str, before: str = "pass", first: str = "pass"
) -> tuple[list[int], list[int], int]:
    source = FORCES.format(asked=asked, before=before, first=first, loss=loss)
    answers = [one for one in build(recorded(source)).answers if one.code == code]
    asks = line_of(source, "autograd.grad")
    return [cause.line for one in answers for cause in one.causes], [line_of(source, "# left")], asks


@pytest.mark.parametrize(
    ("code", "asked", "loss"),
    [
        ("term-without-gradient", KEPT, BOTH),
        ("backward-no-grad", KEPT, "force.pow(2).mean()"),
        ("graph-used-twice", "create_graph=self.training", BOTH),
    ],
)
def test_the_call_of_eval_is_the_cause(code: str, asked: str, loss: str) -> None:
    lines, expected, _ = found(code, asked, loss)
    assert lines[:1] == expected


@pytest.mark.parametrize("code", ["term-without-gradient", "backward-no-grad", "graph-used-twice"])
def test_a_model_that_trains_again_is_silent(code: str) -> None:
    assert found(code, KEPT, BOTH, first="model.train()")[0] == []


def test_where_the_text_asks_for_no_graph_its_line_is_the_cause() -> None:
    lines, _, asks = found("term-without-gradient", "retain_graph=True", BOTH)
    assert lines == [asks]


def test_an_evaluation_of_another_model_is_none() -> None:
    source = FORCES.format(
        asked=KEPT.replace("self.training", "self.energy[1].training"), before="", first="", loss=BOTH
    )
    other = source.replace("model.eval()  # left", "nn.Linear(2, 2).eval()").replace(
        "for epoch", "model.energy[1].training = False\nfor epoch"
    )
    [answer] = [one for one in build(recorded(other)).answers if one.code == "term-without-gradient"]
    assert [cause.line for cause in answer.causes] == [line_of(other, "autograd.grad"), line_of(other, "= False")]


DECIDED = """
import torch
from torch import nn
class Potential(nn.Module):
    def __init__(self, second=False):  # stored by default
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.second = {second}
    def slope(self, energy, x, graph=False):  # default
        return torch.autograd.grad(energy, x, retain_graph=True, create_graph=graph)[0]
    def forward(self, x):
        x = x.detach().requires_grad_()
        energy = self.net(x).sum()
        {body}
        return energy, -slope
def reference(x):
    x = x.detach().requires_grad_()
    return -torch.autograd.grad(x.pow(4).sum(), x)[0]  # target
model = Potential()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model.{mode}  # mode
for step in range(3):
    x = torch.rand(5, 3)
    energy, force = model(x)
    loss = energy ** 2 + 0.1 * (force - reference(x)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
GRAD = "torch.autograd.grad(energy, x, retain_graph=True"


def causes(body: str, mode: str = "eval()", second: str = "None") -> tuple[list[int], str]:
    source = DECIDED.format(body=body, mode=mode, second=second)
    answers = [one for one in build(recorded(source)).answers if one.code == "term-without-gradient"]
    return [cause.line for one in answers for cause in one.causes], source


@pytest.mark.parametrize(
    "body",
    [
        f"(slope,) = {GRAD}, create_graph=self.training)  # asks",
        f"graph = self.training  # asks\n        (slope,) = {GRAD}, create_graph=graph)",
        f"(slope,) = {GRAD}, create_graph=True if self.training else False)  # asks",
        f"(slope,) = {GRAD}, create_graph=self.training and x.requires_grad)  # asks",
        "slope = self.slope(energy, x, graph=self.training)  # asks",
        "slope = self.slope(energy, x, self.training)  # asks",
        f"if self.training:  # asks\n            (slope,) = {GRAD}, create_graph=True)\n"
        f"        else:\n            (slope,) = {GRAD})",
    ],
)
def test_the_mode_decides_however_it_is_asked_for(body: str) -> None:
    lines, source = causes(body)
    assert lines == [line_of(source, "# mode"), line_of(source, "# asks")]
    assert causes(body, mode="train()")[0] == []


def test_what_gives_the_value_is_named_where_it_is_written_elsewhere() -> None:
    lines, source = causes("slope = self.slope(energy, x)  # calls")
    assert lines == [line_of(source, "# calls"), line_of(source, "# default")]
    lines, source = causes(f"(slope,) = {GRAD}, create_graph=self.second)  # asks", second="second")
    assert lines == [line_of(source, "# asks"), line_of(source, "# stored by default")]


@pytest.mark.parametrize("asked", ["not self.training", "self.training or True", "torch.is_grad_enabled()"])
def test_a_graph_in_evaluation_too_is_silent(asked: str) -> None:
    assert causes(f"(slope,) = {GRAD}, create_graph={asked})")[0] == []


def test_gradients_of_a_target_are_not_named_beside_those_of_what_is_trained() -> None:
    lines, source = causes(f"(slope,) = {GRAD})  # asks")
    assert lines == [line_of(source, "# asks")]
