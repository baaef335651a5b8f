"""Optimizers that are made of what requires grad at that moment, and leave out what does not yet, or not now."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ADAPTERS = """
import torch
from torch import nn
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.extra = nn.Linear(3, 1), nn.ParameterDict()
        self.base.requires_grad_(False)
    def add(self, name):
        self.extra[name] = nn.Parameter(torch.zeros(3, 1))
    def activate(self, name):
        self.active = name
        for key, value in self.extra.items():
            value.requires_grad_(key == name)  # freezes
    def forward(self, x):
        return self.base(x) + x @ self.extra[self.active]
layer = Layer()
for name in "ab":
    layer.add(name)
layer.activate("b")
optimizers = {}
def trainable():
    return [p for p in layer.parameters() if p.requires_grad]  # returns
def optimizer_of(name):
    if name not in optimizers:
        params = [p for p in layer.parameters() if p.requires_grad]  # chooses
        optimizers[name] = torch.optim.SGD(params, lr=0.1)  # makes
    return optimizers[name]
for step in range(4):
    for name in "ab":
        layer.activate(name)
        layer(torch.rand(4, 3)).pow(2).mean().backward()
    for name in "ab":
        optimizer_of(name).step()
        optimizer_of(name).zero_grad()
"""
CHOOSES = "params = [p for p in layer.parameters() if p.requires_grad]  # chooses"

STAGES = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
net[0].requires_grad_(False)  # freezes
optimizer = torch.optim.SGD(filter(lambda p: p.requires_grad, net.parameters()), lr=0.1)  # makes
for step in range(6):
    if step == 2:
        net[0].requires_grad_(True)
    optimizer.zero_grad()
    net(torch.rand(4, 3)).pow(2).mean().backward()
    optimizer.step()
"""


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "never-stepped"]


@pytest.mark.parametrize(
    ("new", "marker"),
    [
        (CHOOSES, "# chooses"),
        ("params = filter(lambda p: p.requires_grad, layer.parameters())  # chooses", "# chooses"),
        ("params = trainable()", "# returns"),
        (
            "params = []\n        for p in layer.parameters():\n            if p.requires_grad:  # chooses\n"
            "                params.append(p)",
            "# chooses",
        ),
    ],
    ids=["list", "filter", "function", "loop"],
)
def test_what_chooses_is_named_first(new: str, marker: str) -> None:
    source = ADAPTERS.replace(CHOOSES, new)
    ((text, lines),) = told(source)
    assert lines == [line_of(source, marker), line_of(source, "# freezes"), line_of(source, "# makes")]
    assert f"while it did not require grad (line {lines[1]} had set that), and line {lines[0]} chooses" in text


def test_stages_are_told_alike() -> None:
    ((text, lines),) = told(STAGES)
    assert lines == [line_of(STAGES, "# makes"), line_of(STAGES, "# freezes")]
    assert "was made while they did not require grad" in text


@pytest.mark.parametrize(
    "source",
    [
        ADAPTERS.replace(CHOOSES, "params = [layer.extra[name]]"),
        ADAPTERS.replace("params = [p", "layer.activate(name)\n        params = [p"),
        STAGES.replace(
            "net[0].requires_grad_(True)",
            "optimizer.add_param_group({'params': net[0].requires_grad_(True).parameters()})",
        ),
    ],
    ids=["by name", "activated", "added"],
)
def test_what_is_held_is_fine(source: str) -> None:
    assert told(source) == []


def test_what_is_not_chosen_so_is_not_said_to_be() -> None:
    (one,) = told(ADAPTERS.replace(CHOOSES, "params = [layer.extra['b']]"))
    assert "chooses" not in one[0]
