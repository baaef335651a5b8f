"""Networks whose dropouts drop values where they give another one its targets, and those that are meant to."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy
import torch
import torch.nn.functional as F
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self, drop):
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 6), nn.Linear(6, 3), nn.Dropout(drop)
    def forward(self, x):
        return self.b(self.drop(F.relu(self.a(x))))
def train(model):
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for _ in range(4):
        x = torch.randn(8, 4)
        opt.zero_grad()
        F.cross_entropy(model(x), x[:, :3].argmax(1)).backward()
        opt.step()
    return model
{}
opt = torch.optim.SGD(student.parameters(), lr=0.1)
for step in range(5):
    x = torch.randn(8, 4)
    opt.zero_grad()
    {}
    opt.step()
"""
MADE = "old = train(Net(0.5))  # made\nstudent = Net(0.0)"
FROZEN = "old = train(Net(0.5))\nold.requires_grad_(False)  # frozen\nstudent = Net(0.0)"
COPIED = "student = train(Net(0.5))\nold = copy.deepcopy(student)  # made"
LOADED = "state = train(Net(0.5)).state_dict()\nold = Net(0.5)  # made\nold.load_state_dict(state)\nstudent = Net(0.0)"
NAMED = "teacher = Net(0.5)  # made\nstudent = Net(0.0)"
PART = """class Both(nn.Module):
    def __init__(self):
        super().__init__()
        self.old, self.student = train(Net(0.5)).eval(), Net(0.0)
both = Both()
old, student = both.old, both.student
both.train()  # put back"""
TAUGHT = "with torch.no_grad():\n        y = old(x)  # called\n    F.mse_loss(student(x), y).backward()"
SOFT = "y = old(x).detach().softmax(1)  # called\n    F.kl_div(student(x).log_softmax(1), y).backward()"
LABELS = "y = old(x).argmax(1)  # called\n    F.cross_entropy(student(x), y).backward()"
WRITTEN = "y = old(x).detach()  # called\n    (student(x) - y).pow(2).mean().backward()"
SUM = "y = old(x).softmax(1).detach()  # called\n    (-(y * student(x).log_softmax(1)).sum(1)).mean().backward()"


def found(made: str, taught: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(SOURCE.format(made, taught))).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "evaluated-without-eval"]


@pytest.mark.parametrize(
    ("made", "taught", "marks"),
    [
        (MADE, TAUGHT, ["# called", "# made"]),
        (MADE, SOFT, ["# called", "# made"]),
        (MADE, LABELS, ["# called", "# made"]),
        (MADE, WRITTEN, ["# called", "# made"]),
        (MADE, SUM, ["# called", "# made"]),
        (FROZEN, WRITTEN, ["# frozen", "# called"]),
        (COPIED, TAUGHT, ["# called", "# made"]),
        (LOADED, TAUGHT, ["# called", "# made"]),
        (NAMED, TAUGHT.replace("old", "teacher"), ["# called", "# made"]),
        (PART, TAUGHT, ["# put back", "# called"]),
    ],
)
def test_the_line_that_gives_it_over_and_the_one_that_calls_it_are_named(
    made: str, taught: str, marks: list[str]
) -> None:
    ((text, causes),) = found(made, taught)
    source = SOURCE.format(made, taught)
    assert causes == [line_of(source, mark) for mark in marks]
    assert f"Line {line_of(source, '# called')}: the network of " in text
    assert "dropouts drop values in all 5 answers" in text


BOTH = (
    MADE
    + """
class Taught(nn.Module):
    def __init__(self):
        super().__init__()
        self.old, self.student = old, student
    def forward(self, x):
        with torch.no_grad():
            goal = self.old(x)  # called
        return F.kl_div(self.student(x).log_softmax(1), goal.softmax(1))
both = Taught()"""
)


def test_a_module_that_has_the_loss_too_is_told_of_by_the_line_of_its_own_that_calls_the_other() -> None:
    ((_, causes),) = found(BOTH, "both(x).backward()")
    assert causes[0] == line_of(SOURCE.format(BOTH, ""), "# called")


FOLLOWS = (
    "\n    with torch.no_grad():\n        [a.lerp_(b, 0.1) for a, b in zip(old.parameters(), student.parameters())]"
)
OF_ITS_FEATURES = MADE.replace("student = Net(0.0)", "student = nn.Linear(3, 3)")


@pytest.mark.parametrize(
    ("made", "taught"),
    [
        (MADE + "\nold.eval()", TAUGHT),
        (MADE.replace("0.5", "0.0"), TAUGHT),
        (MADE + "\nold.eval()\nold.train()", TAUGHT),
        (NAMED.replace("teacher", "old"), TAUGHT),
        (MADE, TAUGHT.replace("old(x)", "torch.stack([old(x) for _ in range(3)]).mean(0)")),
        (MADE, TAUGHT + "\n    F.mse_loss(student(x), old(x).detach()).backward()"),
        (COPIED, TAUGHT + FOLLOWS),
        (COPIED, TAUGHT + "\n    if step % 2:\n        old.load_state_dict(student.state_dict())"),
        (COPIED, TAUGHT + "\n    if step % 2:\n        old = copy.deepcopy(student)"),
        (OF_ITS_FEATURES, TAUGHT.replace("student(x), y", "student(y), x[:, :3]")),
        (MADE.replace("student = Net(0.0)", "student = old"), TAUGHT),
    ],
    ids=[
        "eval",
        "no dropout",
        "meant",
        "random",
        "mean",
        "several",
        "average",
        "loaded",
        "copied",
        "features",
        "itself",
    ],
)
def test_what_drops_nothing_or_is_meant_to_is_fine(made: str, taught: str) -> None:
    assert found(made, taught) == []
