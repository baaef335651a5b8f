"""Batch norms behind several layers in a row, whose running statistics mix."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fcs = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.norm = nn.BatchNorm1d(4{})
        self.other = nn.BatchNorm1d(4)
    def forward(self, x):
        {}
        return x
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(5):
    opt.zero_grad()
    net(torch.randn(8, 4)).pow(2).mean().backward()
    opt.step()
{}
net(torch.randn(8, 4))
"""


def lines(forward: str, more: str = "", last: str = "net.eval()") -> list[int]:
    source = SOURCE.format(more, forward.replace("; ", "\n        "), last)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "norm-of-several-layers"]


def test_the_second_run_is_named() -> None:
    assert lines("x = self.norm(self.fcs[0](x)).relu(); x = self.norm(self.fcs[1](x)).relu()") == [11]
    assert lines("for fc in self.fcs:;     x = torch.relu(self.norm(fc(x)))") == [11]


@pytest.mark.parametrize(
    "forward",
    [
        "x = self.norm(self.fcs[0](x)).relu(); x = self.other(self.fcs[1](x)).relu()",
        "x = self.norm(self.fcs[0](x)) + self.norm(self.fcs[1](x))",
        "x = self.norm(self.fcs[0](x)).relu(); x = self.norm(self.fcs[0](x)).relu()",
        "x = self.norm(self.fcs[0](x)).relu(); x = self.fcs[1](x)",
    ],
)
def test_norms_of_their_own_branches_and_one_layer_again_are_fine(forward: str) -> None:
    assert lines(forward) == []


def test_without_running_statistics_or_evaluation_it_is_fine() -> None:
    twice = "x = self.norm(self.fcs[0](x)).relu(); x = self.norm(self.fcs[1](x)).relu()"
    assert lines(twice, more=", track_running_stats=False") == []
    assert lines(twice, last="pass") == []
