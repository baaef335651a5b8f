"""What was frozen with one model and set back with another one that has it too; a part trained with a head is fine."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

BRANCH = """
import copy
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp, self.out = nn.Linear(3, 3), nn.Linear(3, 1)
        self.blocks = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
    def forward(self, x, extra=0):
        h = self.inp(x)
        for block in self.blocks:
            h = torch.tanh(block(h)) + extra
        return self.out(h)

class Branch(nn.Module):
    def __init__(self, blocks=None):
        super().__init__()
        self.inp, self.zero = nn.Linear(3, 3), nn.Linear(3, 3)
        self.blocks = blocks
    def forward(self, x):
        h = self.inp(x)
        for block in self.blocks:
            h = torch.tanh(block(h))
        return self.zero(h)

base = Base()
base.requires_grad_(False)
branch = Branch()
branch.blocks = nn.ModuleList(base.blocks[:2])  # shares
branch.requires_grad_(True)
optimizer = torch.optim.SGD(branch.parameters(), lr=0.1)
for step in range(3):
    x = torch.randn(4, 3)
    optimizer.zero_grad()
    base(x, branch(x)).pow(2).mean().backward()
    optimizer.step()
"""
SHARES = "branch.blocks = nn.ModuleList(base.blocks[:2])  # shares"
MADE = "branch = Branch()\n" + SHARES
BACK = "branch.requires_grad_(True)"

STUDENT = """
import copy
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, embed=None):
        super().__init__()
        self.embed = nn.Embedding(5, 4) if embed is None else embed
        self.head = nn.Linear(4, 2)
    def forward(self, x):
        return self.head(self.embed(x))

teacher = Net()
for p in teacher.parameters():
    p.requires_grad = False
student = Net()
student.embed = teacher.embed  # shares
student.requires_grad_(True)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for step in range(3):
    x = torch.randint(0, 5, (8,))
    with torch.no_grad():
        wanted = teacher(x)
    optimizer.zero_grad()
    (student(x) - wanted).pow(2).mean().backward()
    optimizer.step()
"""
GIVEN = "student = Net()\nstudent.embed = teacher.embed  # shares"


def told(program: str) -> list[list[int]]:
    answers = build(recorded(program)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "freezing-undone"]


@pytest.mark.parametrize(
    ("program", "old", "new"),
    [
        (BRANCH, SHARES, SHARES),
        (BRANCH, SHARES, "branch.blocks = nn.ModuleList([block for block in base.blocks[:2]])  # shares"),
        (BRANCH, MADE, "branch = Branch(base.blocks[:2])  # shares"),
        (BRANCH, MADE, "branch = Branch(nn.ModuleList())\nbranch.blocks.append(base.blocks[0])  # shares"),
        (BRANCH, BACK, "for p in branch.parameters():\n    p.requires_grad_(True)"),
        (BRANCH, BACK, "reference = base(torch.ones(2, 3))\n" + BACK),
        (STUDENT, GIVEN, GIVEN),
        (STUDENT, GIVEN, "student = Net(embed=teacher.embed)  # shares"),
    ],
)
def test_the_line_that_shares_is_named(program: str, old: str, new: str) -> None:
    program = program.replace(old, new)
    ((first, *_),) = told(program)
    assert first == line_of(program, "# shares")


@pytest.mark.parametrize("call", ["base(x, branch(x))", "(branch(x) + base(x))"])
def test_the_part_may_have_another_name_in_the_other_model(call: str) -> None:
    program = BRANCH.replace("self.blocks = blocks", "self.control = blocks").replace("branch.blocks", "branch.control")
    program = program.replace(
        "h = self.inp(x)\n        for block in self.blocks:\n            h = torch.tanh(block(h))\n",
        "h = self.inp(x)\n        for block in self.control:\n            h = torch.tanh(block(h))\n",
    )
    program = program.replace("base(x, branch(x))", call)
    assert "in self.control" in program
    ((first, *_),) = told(program)
    assert first == line_of(program, "# shares")


def test_the_line_that_sets_back_is_named_where_the_text_does_not_show_how_they_are_shared() -> None:
    program = BRANCH.replace(SHARES, "kept = base.blocks\nbranch.blocks = kept[:2]")
    assert told(program) == [[line_of(program, BACK), line_of(program, "base.requires_grad_(False)")]]


@pytest.mark.parametrize(
    ("program", "old", "new"),
    [
        (BRANCH, SHARES, "branch.blocks = copy.deepcopy(base.blocks[:2])"),
        (BRANCH, BACK, "branch.inp.requires_grad_(True)"),  # what is shared stays frozen
        (BRANCH, BACK, "branch.blocks.requires_grad_(True)"),  # meant for what is shared alone
        (BRANCH, "base(x, branch(x))", "branch(torch.tanh(base.inp(x)))"),  # the base runs no more with its blocks
        (BRANCH, "base(x, branch(x))", "branch(x)"),
        (STUDENT, GIVEN, "student = Net()\nstudent.embed = copy.deepcopy(teacher.embed)"),
        (STUDENT, "student.requires_grad_(True)", "student.requires_grad_(True)\nteacher.requires_grad_(False)"),
    ],
)
def test_a_copy_and_a_part_that_is_meant_are_fine(program: str, old: str, new: str) -> None:
    assert old in program
    assert told(program.replace(old, new)) == []


TUNED = """
import torch
from torch import nn

class Tuned(nn.Module):
    def __init__(self, backbone, times):
        super().__init__()
        self.backbone, self.last, self.head, self.times = [backbone], backbone[-1], nn.Linear(3, 1), times
    def forward(self, x):
        for layer in self.backbone[0][:-1]:
            x = torch.tanh(layer(x))
        for _ in range(self.times):
            x = torch.tanh(self.last(x))
        return self.head(x)

backbone = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
backbone.requires_grad_(False)
model = Tuned(backbone, {times})
{back}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.randn(4, 3)).pow(2).mean().backward()
    optimizer.step()
"""


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "back", ["model.requires_grad_(True)", "nn.ModuleList([backbone[-1], model.head]).requires_grad_(True)"]
)
def test_the_last_part_of_a_frozen_model_may_be_trained_with_a_head(times: int, back: str) -> None:
    assert told(TUNED.format(times=times, back=back)) == []
