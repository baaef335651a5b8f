"""Leaves that the program has no names for but those of their class: each has one of its own in the table."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

REMOVED = """
import torch
from torch import nn
from torch.nn.utils import parametrize
class LowRank(nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.a = nn.Parameter(torch.ones(1, columns))
        self.b = nn.Parameter(torch.ones(rows, 1))
    def forward(self, weight):
        return weight + self.b @ self.a
net = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2))
net.requires_grad_(False)
for layer in net:
    parametrize.register_parametrization(layer, "weight", LowRank(*layer.weight.shape))
for step in range(2):
    net(torch.ones(1, 2)).sum().backward()
for layer in net:
    parametrize.remove_parametrizations(layer, "weight")
"""


def test_parameters_of_removed_parametrizations_are_told_apart() -> None:
    (group,) = build(recorded(REMOVED)).backwards
    names = [one.name for one in group.gradients]
    assert len(names) == len(set(names)) == 4
    assert all(name.endswith(("weight.0.a", "weight.0.b")) for name in names)
