"""What was frozen among others and set back with all of them is told; a choice of what is trained is not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

def prepare(model):
    {prepare}
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)

net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
{freeze}
optimizer = prepare(net)
for step in range(3):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""
BY_NAME = "for name, p in net.named_parameters():\n    if name.startswith('0.'):\n        p.requires_grad_(False)"
ALL = "net.requires_grad_(False)"
HEAD = "for p in model[-1].parameters():\n        p.requires_grad = True"


def told(program: str) -> list[int]:
    answers = build(recorded(program)).answers
    return [answer.causes[0].line for answer in answers if answer.code == "freezing-undone"]


@pytest.mark.parametrize("freeze", [BY_NAME, "net[0].requires_grad_(False)", "net[0].weight.requires_grad = False"])
@pytest.mark.parametrize(
    "prepare",
    ["for p in model.parameters():\n        p.requires_grad = True  # here", "model.requires_grad_(True)  # here"],
)
def test_what_is_set_back_with_all_the_others(freeze: str, prepare: str) -> None:
    program = PROGRAM.format(freeze=freeze, prepare=prepare)
    assert told(program) == [line_of(program, "# here")]


@pytest.mark.parametrize(
    ("freeze", "prepare"),
    [
        (ALL, HEAD),  # the usual way to train the head alone
        (ALL, "model.requires_grad_(True)"),  # all of it, and all of it again
        (BY_NAME, "for p in model[0].parameters():\n        p.requires_grad = True"),  # meant for these alone
        (BY_NAME + "\nheld = net(torch.ones(2, 3))", "model.requires_grad_(True)"),  # it was used as it was frozen
        (BY_NAME, "model.requires_grad_(True)\n    model[0].requires_grad_(False)"),  # and frozen again
        (BY_NAME, "model.train()"),
    ],
)
def test_a_choice_of_what_is_trained_is_none(freeze: str, prepare: str) -> None:
    assert told(PROGRAM.format(freeze=freeze, prepare=prepare)) == []
