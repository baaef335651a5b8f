"""Schedules by hand that set the rate of one group of several, and those that mean it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
layer = torch.nn.Linear(3, 1)
def make(first=None, second=None, **settings):
    groups = [{"params": [layer.weight], **(first or {})}, {"params": [layer.bias], **(second or {})}]
    return torch.optim.SGD(groups, **settings)
def step(times=1):
    for _ in range(times):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
"""


LOOP = "for i in range(6):\n    "


def said(source: str) -> list[int]:
    answers = build(recorded(HEAD + source.replace("LOOP", LOOP))).answers
    return [one.causes[0].line for one in answers if one.code == "rate-of-one-group"]


@pytest.mark.parametrize(
    "source",
    [
        "optimizer = make({'weight_decay': 0.1}, lr=0.1)\n"
        "LOOPoptimizer.param_groups[0]['lr'] = 0.1 / (i + 1)  # here\n    step()",
        "optimizer = make(lr=0.1)\nLOOPstep()\n    optimizer.param_groups[0]['lr'] *= 0.5  # here",
        "optimizer = make(lr=0.1)\nLOOPstep()\n    optimizer.param_groups[1]['lr'] *= 0.5  # here",
    ],
)
def test_the_line_that_sets_the_rate_is_the_cause(source: str) -> None:
    assert said(source) == [line_of(HEAD + source.replace("LOOP", LOOP), "# here")]


@pytest.mark.parametrize(
    "source",
    [
        "optimizer = make(lr=0.1)\nLOOPfor group in optimizer.param_groups: group['lr'] *= 0.5\n    step()",
        "optimizer = make({'lr': 0.01}, lr=0.1)\nLOOPoptimizer.param_groups[0]['lr'] *= 0.5\n    step()",
        "optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)\n"
        "LOOPoptimizer.param_groups[0]['lr'] *= 0.5\n    step()",
        "optimizer = make(lr=0.1)\nLOOPoptimizer.param_groups[0]['lr'] *= 0.5\n"
        "    optimizer.param_groups[1]['lr'] *= 0.9\n    step()",
        "optimizer = make(lr=0.1)\noptimizer.param_groups[0]['lr'] = 0.01\nstep(8)",
        "optimizer = make(lr=0.1)\nLOOPoptimizer.param_groups[0]['lr'] *= 0.5\n    step()\n"
        "optimizer.load_state_dict(make(lr=0.01).state_dict())\nstep(2)",
        "optimizer = make(lr=0.1)\n"
        "s = torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda i: 1 / (i + 1), lambda i: 1.0])"
        "\n"
        "for i in range(6): step(); s.step()",
    ],
)
def test_groups_that_all_change_or_were_made_different(source: str) -> None:
    assert said(source) == []
