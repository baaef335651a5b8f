"""Parts that two models share and that were frozen through one of them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
def freeze(module):
    for p in module.parameters():
        p.requires_grad = False
    return module
class Net(nn.Module):
    def __init__(self, table):
        super().__init__()
        self.table, self.head = table, nn.Linear(3, 2)
    def forward(self, x):
        return self.head(self.table(x))
def make():
    table = nn.Linear(3, 3)
    student = Net(table)
    {build}
    {freeze}
    return student, teacher
student, teacher = make()
optimizer = torch.optim.SGD({held}, lr=0.1)
for step in range(2):
    x = torch.rand(4, 3)
    with torch.no_grad():
        target = {target}
    optimizer.zero_grad()
    (student(x) - target).pow(2).mean().backward()
    optimizer.step()
"""
SHARED = {
    "build": "teacher = Net(table)",
    "freeze": "freeze(teacher)",
    "held": "student.parameters()",
    "target": "teacher(x)",
}


def lines(changes: dict[str, str]) -> list[int]:
    answers = build(recorded(PROGRAM.format(**SHARED | changes))).answers
    return [cause.line for one in answers if one.code == "frozen-with-another" for cause in one.causes]


@pytest.mark.parametrize(
    "freezing",
    [
        "freeze(teacher)",
        "teacher.requires_grad_(False)",
        "for p in teacher.parameters():\n        p.requires_grad_(False)",
    ],
)
def test_the_line_that_shares_comes_first(freezing: str) -> None:
    source = PROGRAM.format(**SHARED | {"freeze": freezing})
    found = lines({"freeze": freezing})
    assert found[0] == line_of(source, "teacher = Net(table)")
    assert len(found) >= 2


@pytest.mark.parametrize(
    "changes",
    [
        {"build": "teacher = Net(nn.Linear(3, 3))"},
        {"freeze": "freeze(teacher.head)"},
        {"freeze": "freeze(table); teacher.head.requires_grad_(False)"},
        {"held": "student.head.parameters()"},
        {"held": "[*student.parameters(), *teacher.head.parameters()]"},
        {"freeze": "freeze(teacher); table.requires_grad_(True)"},
        {"target": "torch.zeros(4, 2)"},
        {"build": "teacher = Net(student.table)"},
    ],
)
def test_what_is_not_shared_not_trained_or_frozen_by_itself_is_left_alone(changes: dict[str, str]) -> None:
    assert lines(changes) == []


AVERAGED = """
import copy
import torch
from torch import nn
class Twins(nn.Module):
    def __init__(self, trunk, width):
        super().__init__()
        self.online = nn.Sequential(trunk, nn.Linear(width, 2))
        {build}
        {freeze}
    def average(self):
        with torch.no_grad():
            for p, q in zip(self.online.parameters(), self.target.parameters()):
                {average}
    def forward(self, x):
        with torch.no_grad():
            wanted = self.target(x)
        return ({online} - wanted - 1).pow(2).mean()
trunk = nn.Linear(3, 3)
{first}
twins = Twins(trunk, width=3)
optimizer = torch.optim.SGD([p for p in twins.parameters() if p.requires_grad], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    twins(torch.rand(4, 3)).backward()
    optimizer.step()
    twins.average()
"""
BOTH = {
    "build": "self.target = nn.Sequential(trunk, nn.Linear(width, 2))",
    "freeze": "for p in self.target.parameters():\n            p.requires_grad = False",
    "average": "q.lerp_(p, 0.1)",
    "online": "self.online(x)",
    "first": "",
}


def averaged(changes: dict[str, str]) -> list[int]:
    answers = build(recorded(AVERAGED.format(**BOTH | changes))).answers
    return [one.causes[0].line for one in answers if one.code == "frozen-with-another"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"freeze": "self.target.requires_grad_(False)"},
        {"average": "q.data.mul_(0.9).add_(p.data, alpha=0.1)"},
        {"average": "q.copy_(p)"},
    ],
)
def test_a_part_that_is_averaged_with_itself_was_to_be_two(changes: dict[str, str]) -> None:
    assert averaged(changes) == [line_of(AVERAGED.format(**BOTH | changes), "self.target = ")]


@pytest.mark.parametrize(
    "changes",
    [
        {"build": "self.target = nn.Sequential(copy.deepcopy(trunk), nn.Linear(width, 2))"},
        {"freeze": "self.target[1].requires_grad_(False)"},
        {"first": "trunk.requires_grad_(False)"},
        {"average": "pass"},
        {"online": "self.online[1](self.online[0](x).detach())", "first": "trunk.requires_grad_(False)"},
        {"first": "own = torch.optim.SGD(trunk.parameters(), 0.1)\ntrunk(torch.ones(3)).sum().backward()\nown.step()"},
    ],
)
def test_a_part_that_is_no_second_one_or_was_frozen_by_itself_is_left_alone(changes: dict[str, str]) -> None:
    assert averaged(changes) == []


def test_a_part_that_is_an_attribute_of_who_builds_both() -> None:
    program = """
import torch
from torch import nn
class Trainer:
    def __init__(self):
        self.table = nn.Linear(3, 3)
        self.student = nn.Sequential(self.table, nn.Linear(3, 2))
        self.teacher = nn.Sequential(self.table, nn.Tanh(), nn.Linear(3, 2))
        self.teacher.requires_grad_(False)
        self.optimizer = torch.optim.SGD(self.student.parameters(), lr=0.1)
    def fit(self):
        for step in range(2):
            x = torch.rand(4, 3)
            self.optimizer.zero_grad()
            (self.student(x) - self.teacher(x)).pow(2).mean().backward()
            self.optimizer.step()
Trainer().fit()
"""

    def told(source: str) -> list[int]:
        answers = build(recorded(source)).answers
        return [cause.line for one in answers if one.code == "frozen-with-another" for cause in one.causes]

    assert told(program) == [line_of(program, "self.teacher = "), line_of(program, "requires_grad_(")]
    assert told(program.replace("(self.table, nn.Tanh()", "(nn.Linear(3, 3), nn.Tanh()")) == []
