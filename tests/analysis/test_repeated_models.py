"""Lists that have one model several times, with an optimizer for each, and what looks like them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
def make(): return nn.Linear(3, 1)
net = make()
class Ensemble:
    def __init__(self, models):
        self.models = models
Adam = torch.optim.Adam
"""
TAIL = """
for _ in range(2):
    for m, opt in zip(members, opts):
        opt.zero_grad()
        m(torch.ones(2, 3)).sum().backward()
        opt.step()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(HEAD + source + TAIL)).answers
    return [cause.line for one in answers if one.code == "repeated-module" for cause in one.causes]


@pytest.mark.parametrize(
    "source",
    [
        "members = [make()] * 3  # here\nopts = [Adam(m.parameters()) for m in members]",
        "members, opts = [net for _ in range(3)], []  # here\nfor m in members:\n    opts.append(Adam(m.parameters()))",
        "e = Ensemble([])\ne.models = 2 * [net]  # here\n"
        "opts = [Adam(m.parameters(), lr=lr) for lr, m in zip((0.1, 0.2), e.models)]\nmembers = e.models",
        "def pair():\n    members = [make()] * 2  # here\n"
        "    return members, [Adam(m.parameters()) for i, m in enumerate(members)]\nmembers, opts = pair()",
    ],
)
def test_the_line_that_multiplies_the_list_is_the_cause(source: str) -> None:
    assert lines(source) == [line_of(HEAD + source + TAIL, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        "members = [make() for _ in range(3)]\nopts = [Adam(m.parameters()) for m in members]",
        "members = [make()] * 3\nopts = [Adam(net.parameters())] * 3",
        "members, opts = [net], []\nfor fold in range(3):\n    opts = [Adam(m.parameters()) for m in members]",
        "devices, members = ['cpu'] * 2, [net, net]\nopts = [Adam(net.parameters()) for d in devices]",
        "shared = net\nmembers = [shared] * 2\nopts = [Adam(m.parameters()) for m in members]",
        "members = [make()] * 2\nmembers = [make(), make()]\nopts = [Adam(m.parameters()) for m in members]",
    ],
)
def test_models_of_their_own_and_optimizers_made_anew(source: str) -> None:
    assert lines(source) == []
