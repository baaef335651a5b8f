"""Shallow copies that were frozen, and with them what they were made from."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk, self.head = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), nn.Linear(4, 2)
    def forward(self, x):
        h = self.trunk(x)
        return h, self.head(h)
def freeze(module):
    for p in module.parameters():
        p.requires_grad = False
net = Net()
{before}
old = {copied}  # copied
{freeze}
optimizer = torch.optim.SGD({held}, lr=0.05)
x = torch.randn(8, 4)
for step in range(3):
    h, y = net(x)
    optimizer.zero_grad()
    (y.pow(2).mean() + (h - old(x)).pow(2).mean()).backward()
    optimizer.step()
"""
SHALLOW = {
    "before": "",
    "copied": "copy.copy(net.trunk)",
    "freeze": "old.requires_grad_(False)",
    "held": "net.parameters()",
}


def lines(**changes: str) -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(**SHALLOW | changes))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "frozen-with-another"]


@pytest.mark.parametrize(
    "freezing",
    ["old.requires_grad_(False)", "for p in old.parameters():\n    p.requires_grad = False", "freeze(old)"],
)
def test_the_line_that_copies_comes_first(freezing: str) -> None:
    (causes,) = lines(freeze=freezing)
    assert causes[0] == line_of(PROGRAM, "# copied")


@pytest.mark.parametrize(
    "changes",
    [
        {"copied": "copy.deepcopy(net.trunk)"},
        {"freeze": "net.trunk.requires_grad_(False)"},
        {"freeze": "freeze(net.trunk)"},
        {"held": "net.head.parameters()"},
        {"held": "[p for p in net.parameters() if p.requires_grad]"},
        {"freeze": "old.requires_grad_(False)\nnet.requires_grad_(True)"},
        {"before": "freeze(net.trunk)", "freeze": "freeze(old)"},
        {"freeze": ""},
    ],
)
def test_what_was_copied_deeply_or_frozen_by_its_own_name_is_silent(changes: dict[str, str]) -> None:
    assert lines(**changes) == []
