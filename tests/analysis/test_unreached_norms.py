"""A class whose train() stands in for that of its base class: it is named where eval() does not reach a norm."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
        self.head = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    def forward(self, x):
        return self.head(self.stem(x))
    def train(self, mode=True):
        self.training = mode
        self.head.train(mode)
        return self
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()
    def forward(self, x):
        return self.net(x)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(2):
    model.train()
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, 3)).pow(2).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(torch.randn(8, 3))
"""


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert {one.code for one in answers} <= {"mode-not-handed-on"}
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("model = Model()", "model = Net()"),
        ("        self.head.train(mode)", "        for part in (self.head,): part.train(mode)"),
    ],
    ids=["inside", "the model itself", "in a loop"],
)
def test_the_method_is_named(before: str, after: str):
    source = SOURCE.replace(before, after, 1) if before else SOURCE
    assert found(source) == [line_of(source, "self.training = mode")]


def test_frozen_norms_in_it_are_told_once():
    source = SOURCE.replace("optimizer =", "model.net.stem.requires_grad_(False); optimizer =")
    source = source.replace("model.parameters()", "model.net.head.parameters()")
    assert found(source) == [line_of(source, "self.training = mode")]


@pytest.mark.parametrize(
    "instead",
    [
        "super().train(mode)",
        "nn.Module.train(self, mode)",
        "self.training = mode; self.stem.eval()",
        "self.training = mode; self.stem.train()",
        "[one.train(mode) for one in self.children()]",
    ],
)
def test_a_method_that_reaches_all_or_sets_it_itself_is_fine(instead: str):
    assert found(SOURCE.replace("self.training = mode", instead)) == []


def test_norms_that_no_evaluation_runs_are_not_spoken_of():
    assert found(SOURCE.split("    model.eval()")[0]) == []
