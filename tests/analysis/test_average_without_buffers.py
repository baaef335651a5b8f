"""Averages of weights that leave the statistics of batch norms out, and those that do not or do not need them."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
class Average:
    def __init__(self, model):
        self.model = copy.deepcopy(model).requires_grad_(False)
    @torch.no_grad()
    def update(self, model):
        for a, p in zip(self.model.parameters(), model.parameters()):
            a.mul_(0.9).add_(p, alpha=0.1)  # here
average = Average(net)
average.model.eval()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(5):
    net(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    average.update(net)
with torch.no_grad():
    average.model(torch.randn(8, 3)).mean()
"""
AVERAGE = "a.mul_(0.9).add_(p, alpha=0.1)  # here"


def said(*changes: tuple[str, str]) -> tuple[list[int], str]:
    source = SOURCE
    for change in changes:
        assert change[0] in source
        source = source.replace(*change)
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "average-without-buffers"], source


@pytest.mark.parametrize(
    "change",
    [
        ("torch", "torch"),
        (AVERAGE, "a.lerp_(p, 0.1)  # here"),
        (AVERAGE, "a.data = 0.9 * a + 0.1 * p  # here"),
        (
            "zip(self.model.parameters(), model.parameters())",
            "zip(self.model.parameters(), [q.data for q in net.parameters()])",
        ),
    ],
)
def test_the_line_that_averages_is_the_cause(change: tuple[str, str]) -> None:
    lines, source = said(change)
    assert lines == [line_of(source, "# here")]


@pytest.mark.parametrize(
    "changes",
    [
        (
            (
                "    average.update(net)\n",
                "    average.update(net); pairs = zip(average.model.buffers(), net.buffers())\n"
                "    for a, b in pairs: a.copy_(b)\n",
            ),
        ),
        (
            (
                "with torch.no_grad():\n    average",
                "update_bn([torch.ones(8, 3)], average.model)\nwith torch.no_grad():\n    average",
            ),
        ),
        (("average.model.eval()\n", ""),),  # (it learns statistics of its own)
        (("\n    average.model(", "\n    average.model.load_state_dict(net.state_dict()); average.model("),),
        (("average = Average(net)", "average = Average(net); net[1].eval()"),),  # (there is nothing to learn)
        (("nn.BatchNorm1d(4)", "nn.LayerNorm(4)"),),
        (("\n    average.model(", "\n    net("),),
    ],
)
def test_statistics_that_are_not_stale(changes: tuple[tuple[str, str], ...]) -> None:
    assert said(*changes)[0] == []


def test_torchs_own_average_copies_the_buffers() -> None:
    change = (
        "average = Average(net)\naverage.model.eval()",
        "average = AveragedModel(net)\naverage.model = average.eval()",
    )
    assert said(change, ("average.update(net)", "average.update_parameters(net)"))[0] == []
