"""Terms that keep weights near earlier ones, and were computed from the earlier ones alone."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ANCHORED = """import torch
from torch import nn
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
opt = torch.optim.SGD(net.parameters(), lr=0.1)
saved = [p.detach().clone() for p in net.parameters()]  # saves
live = [p.detach() for p in net.parameters()]  # shares
for step in range(3):
    loss = net(torch.ones(3, 4)).pow(2).mean()
    near = torch.tensor(0.0)
    for p, q in zip(net.parameters(), saved):
        p = q[:2]  # takes
        near += (p - q[:2]).pow(2).sum()  # adds
    loss = loss + near
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new", "mark"),
    [
        ("", "", "# takes"),
        ("p = q[:2]", "p = q.narrow(0, 0, 2)", "# takes"),
        ("p = q[:2]", "now = q[:2]", "# adds"),  # no name is lost there, and the copies alone are used
        ("p = q[:2]", "p = p.detach()[:2]", "# takes"),  # the present values, cut off here
        ("zip(net.parameters(), saved):\n        p = q[:2]", "zip(live, saved):\n        p = p[:2]", "# shares"),
    ],
)
def test_the_copy_is_not_blamed_but_its_use(old: str, new: str, mark: str) -> None:
    source = ANCHORED.replace(old, new)
    source = source.replace("(p - q[:2])", "(now - q[:2])") if "now =" in new else source
    assert lines(source) == [line_of(source, mark)]


@pytest.mark.parametrize("new", ["p = p[:2]", "p = p.narrow(0, 0, 2)"])
def test_a_part_of_the_parameter_itself_is_none(new: str) -> None:
    assert lines(ANCHORED.replace("p = q[:2]", new)) == []
