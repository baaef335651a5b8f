"""Parts of two models that eval() of the one puts into evaluation mode, and that are trained under the other."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Stem(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 8), nn.Linear(8, 8)
        self.between = {between}
    def forward(self, x):
        return self.last(self.between(torch.relu(self.first(x))))
class Net(nn.Module):
    def __init__(self, stem):
        super().__init__()
        self.stem, self.head = stem, nn.Linear(8, 2)
    def forward(self, x):
        return self.head(self.stem(x))
stem = Stem()
student = Net(stem)
teacher = Net({stem})
optimizer = torch.optim.SGD({held}, lr=0.1)
for epoch in range({epochs}):
    {train}
    {evaluate}
    for step in range(4):
        x = torch.randn(6, 5)
        with torch.no_grad():
            target = {target}
        optimizer.zero_grad()
        (student(x) - target).pow(2).mean().backward()
        optimizer.step()
"""
SHARED = {
    "between": "nn.BatchNorm1d(8)",
    "stem": "stem",
    "held": "student.parameters()",
    "epochs": "1",
    "train": "student.train()",
    "evaluate": "teacher.eval()",
    "target": "teacher(x)",
}


def found(changes: dict[str, str]) -> list[Answer]:
    answers = build(recorded(PROGRAM.format(**SHARED | changes))).answers
    return [one for one in answers if one.code == "trained-in-evaluation"]


@pytest.mark.parametrize(
    ("changes", "marker"),
    [
        ({}, "teacher.eval()"),
        ({"epochs": "2"}, "teacher.eval()"),
        ({"between": "nn.Dropout(0.3)"}, "teacher.eval()"),
        ({"between": "nn.Dropout(0.3)", "epochs": "2"}, "teacher.eval()"),
        ({"train": "pass"}, "teacher.eval()"),
        ({"evaluate": "teacher.train(False)"}, "teacher.train(False)"),
        ({"evaluate": "pass", "target": "teacher.eval()(x)"}, "teacher.eval()"),
        ({"evaluate": "student.head.train(); [one.eval() for one in (teacher,)]"}, "one.eval()"),
    ],
)
def test_eval_of_the_one_reaches_what_is_trained_under_the_other(changes: dict[str, str], marker: str) -> None:
    source = PROGRAM.format(**SHARED | changes)
    (answer,) = found(changes)
    assert answer.severity == "warning"
    assert answer.causes[0].line == line_of(source, marker)
    assert "which has this part as well" in answer.text


def test_the_lines_of_train_and_of_the_sharing_are_named_too() -> None:
    source = PROGRAM.format(**SHARED)
    (answer,) = found({})
    assert [one.line for one in answer.causes[1:]] == [
        line_of(source, "student.train()"),
        line_of(source, "= Net(stem)") + 1,
    ]
    assert "4 steps train stem.between.weight" in answer.text


@pytest.mark.parametrize(
    "changes",
    [
        {"stem": "Stem()"},
        {"evaluate": "teacher.head.eval()"},
        {"train": "teacher.eval()", "evaluate": "student.train()"},
        {"evaluate": "teacher.eval(); stem.train()"},
        {"held": "student.head.parameters()"},
        {"between": "nn.Dropout(0.0)"},
        {"between": "nn.Identity()"},
        {"train": "pass", "target": "torch.zeros(6, 2)"},
    ],
)
def test_what_is_not_shared_not_trained_or_put_back_is_left_alone(changes: dict[str, str]) -> None:
    assert not found(changes)


def test_a_frozen_part_of_the_trained_model_may_be_put_into_evaluation_mode() -> None:
    source = """
        import torch
        from torch import nn
        trunk = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8))
        trunk[0].requires_grad_(False)
        model = nn.Sequential(trunk, nn.Linear(8, 2))
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        model.train()
        trunk.eval()
        for step in range(5):
            optimizer.zero_grad()
            model(torch.randn(6, 5)).pow(2).mean().backward()
            optimizer.step()
    """
    assert not [one for one in build(recorded(source)).answers if one.code == "trained-in-evaluation"]


def test_a_teacher_that_is_an_average_is_not_called_frozen() -> None:
    source = """
        import copy
        import torch
        from torch import nn
        net = nn.Linear(3, 2)
        mean = copy.deepcopy(net).requires_grad_(False)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for step in range(3):
            x = torch.randn(4, 3)
            optimizer.zero_grad()
            (net(x) - mean(x)).pow(2).mean().backward()
            optimizer.step()
            with torch.no_grad():
                for one, other in zip(mean.parameters(), net.parameters()):
                    one.{update}
    """
    codes = [
        {one.code for one in build(recorded(source.format(update=update))).answers}
        for update in ("lerp_(other, 0.1)", "mul_(1)")
    ]
    assert "frozen" not in codes[0] and "frozen" in codes[1]
