"""A model of averaged weights is no way into the loss of the model that it averages."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
mean = torch.optim.swa_utils.AveragedModel(net)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(4):
    loss = net(torch.randn(4, 2)).pow(2).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    mean.update_parameters(net)
"""


def test_its_update_writes_nothing_of_the_trained_model() -> None:
    assert not [one for one in build(recorded(SOURCE)).answers if one.severity != "note"]
