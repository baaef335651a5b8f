"""Updates of a target or an average by weights that are nobody's any more."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn

class Average:
    def __init__(self, model):
        self.model = model  # model
        self.copy = copy.deepcopy(model).requires_grad_(False)
        self.pairs = list(zip(model.parameters(), self.copy.parameters()))  # pairs
    @torch.no_grad()
    def update(self):
        for weight, mean in {walked}:
            {mixed}

frozen, net = nn.Linear(4, 4).requires_grad_({trains}), nn.Linear(4, 4)
average = Average({averaged})
{replaced}
optimizer = torch.optim.SGD([*net.parameters()], lr=0.1)
for step in range(7):
    optimizer.zero_grad()
    net(torch.tanh(frozen(torch.rand(5, 4)))).pow(2).mean().backward()
    optimizer.step()
    average.update()
    {after}
"""
PAIRS = "self.pairs"
ASKED = "zip(self.model.parameters(), self.copy.parameters())"
LERP = "mean.lerp_(weight, 0.1)"
AS_DATA = "mean.data.mul_(0.9).add_(weight.data, alpha=0.1)"
REPLACED = "net = copy.deepcopy(net)"


def told(**parts: str) -> tuple[list[int], str]:
    given = {
        "walked": PAIRS,
        "mixed": LERP,
        "trains": "False",
        "averaged": "net",
        "replaced": REPLACED,
        "after": "pass",
    }
    source = PROGRAM.format(**given | parts)
    answers = [one for one in build(recorded(source)).answers if one.code == "average-of-left-weights"]
    return [cause.line for one in answers for cause in one.causes], source


@pytest.mark.parametrize(("walked", "kept"), [(PAIRS, "# pairs"), (ASKED, "# model")])
@pytest.mark.parametrize("mixed", [LERP, AS_DATA, "mean.copy_(0.9 * mean + 0.1 * weight)"])
def test_the_line_that_keeps_the_old_ones_comes_first(walked: str, kept: str, mixed: str) -> None:
    lines, source = told(walked=walked, mixed=mixed)
    assert lines[0] == line_of(source, kept)
    assert lines[-1] == line_of(source, f"            {mixed}")


@pytest.mark.parametrize(
    "parts",
    [
        {"replaced": "pass"},
        {"replaced": "pass", "walked": ASKED},
        {"averaged": "frozen"},
        {"averaged": "frozen", "trains": "True"},
        {"averaged": "nn.ModuleList([frozen, net])", "replaced": "pass"},
        {"after": "average = Average(net)"},
        {"after": "average.model(torch.rand(2, 4))"},
    ],
)
def test_others_are_none(parts: dict[str, str]) -> None:
    assert told(**parts)[0] == []


def test_weights_that_are_set_back_to_those_of_the_beginning_are_none() -> None:
    source = """
import copy
import torch
net = torch.nn.Linear(4, 4)
begun = copy.deepcopy(net)
for task in range(8):
    with torch.no_grad():
        for p, old in zip(net.parameters(), begun.parameters()):
            p.copy_(old)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.rand(5, 4)).pow(2).mean().backward()
        optimizer.step()
"""
    assert [one.code for one in build(recorded(source)).answers if one.code == "average-of-left-weights"] == []
