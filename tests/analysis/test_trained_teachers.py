"""A teacher that an optimizer trains towards its student is found, and networks that are to learn are left alone."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PAIR = """import torch
from torch import nn
F = nn.functional
class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.student = nn.Linear(4, 3)
        self.teacher = nn.Linear(4, 3)
pair = Pair()
opt = torch.optim.SGD(pair.parameters(), lr=0.1)
x, y = torch.randn(8, 4), torch.randint(0, 3, (8,))
for step in range(3):
    mine = pair.student(x)
    expected = pair.teacher(x)  # teaches
    loss = LOSS
    opt.zero_grad()
    loss.backward()
    opt.step()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "teacher-trained"]


@pytest.mark.parametrize(
    "loss",
    [
        "F.mse_loss(mine, expected)",
        "F.mse_loss(expected, mine) + F.cross_entropy(mine, y)",
        "F.cross_entropy(mine / 2, (expected / 2).softmax(-1))",
        "(mine - expected).pow(2).mean()",
    ],
)
def test_the_line_that_runs_the_teacher_is_the_cause(loss: str) -> None:
    source = PAIR.replace("LOSS", loss)
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# teaches")


HEALTHY = {
    "it has a loss of its own": PAIR.replace("LOSS", "F.mse_loss(mine, expected) + F.cross_entropy(expected, y)"),
    "two that learn from each other": PAIR.replace("LOSS", "F.mse_loss(mine, expected)").replace("teacher", "second"),
    "detached": PAIR.replace("LOSS", "F.mse_loss(mine, expected.detach())"),
    "not optimized": PAIR.replace("LOSS", "F.mse_loss(mine, expected)").replace("pair.param", "pair.student.param"),
    "the teacher is what learns": PAIR.replace("LOSS", "F.mse_loss(mine.detach(), expected)"),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_networks_that_are_to_learn_are_not_named(case: str) -> None:
    assert found(HEALTHY[case]) == []
