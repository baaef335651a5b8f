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


TEACHER = """
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
def train():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    teacher = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    teacher.requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for step in range(8):
        x = torch.randn(4, 2)
        with torch.no_grad():
            target = teacher(x)
        loss = (net(x) - target).pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        teacher.update_parameters(net)
train()
"""


def test_a_frozen_teacher_whose_weights_are_averages_may_learn_statistics() -> None:
    said = [one.code for one in build(recorded(TEACHER)).answers]
    assert "frozen-norm-learns" not in said
    never_updated = TEACHER.replace("        teacher.update_parameters(net)\n", "")
    assert "frozen-norm-learns" in [one.code for one in build(recorded(never_updated)).answers]
