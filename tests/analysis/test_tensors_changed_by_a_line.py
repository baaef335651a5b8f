"""How many tensors a line changed that changed many of them: a set of their ids in plain Python is the oracle."""

from __future__ import annotations

import pytest
import torch

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SWITCHED = """
import torch
from torch import nn
changed = set()
class Scaled(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n, n) / n)
        self.bias = nn.Parameter(torch.zeros(n))
    def forward(self, x):
        return x @ self.weight + self.bias
class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Scaled(2), Scaled(2)
        self.noise = nn.Parameter(torch.ones(1))
    def forward(self, x):
        return self.second(self.first(x).tanh()) * self.noise
def switch(module, on):
    for p in module.parameters():
        p.requires_grad_(on)  # here
def train():
    net, other = nn.Sequential(Parts(), Parts()), nn.Sequential(Scaled(2), Scaled(2))
    for n in range({rounds}):
        switch(net, False)
        other(net(torch.ones(3, 2))).sum().backward()
        switch(net, True), switch(other, False)
        other(net(torch.ones(3, 2))).sum().backward()
        switch(other, True)
train()
"""
IN_TURN = """
import torch
from torch import nn
for n in range(4):
    net = nn.Sequential(*(nn.Linear(2, 2) for _ in range(5)))
    for p in net.parameters():
        p.requires_grad_(False)  # here
    net(torch.ones(3, 2)).sum()
"""


def shown(source: str) -> set[str]:
    return {row.name for row in build(recorded(source)).lines if "# here" in row.source}


@pytest.mark.parametrize("rounds", [1, 3, 20])
def test_tensors_of_one_name_that_live_together_are_all_counted(rounds: int) -> None:
    source = SWITCHED.format(rounds=rounds)
    namespace: dict[str, set[torch.nn.Parameter]] = {}
    exec(source.replace("p.requires_grad_(on)", "p.requires_grad_(on), changed.add(p)"), namespace)
    assert shown(source) == {f"{len(namespace['changed'])} tensors"}


def test_one_that_takes_the_place_of_another_is_counted_once() -> None:
    assert shown(IN_TURN) == {"10 tensors"}
