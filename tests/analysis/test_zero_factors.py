"""Parameters that keep one another at zero, and those that start at zero and leave it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
import torch.nn.functional as F
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(3, 3)
        self.first = nn.Parameter({first})
        self.second = nn.Parameter({second})
        {more}
    def forward(self, x):
        return self.base(x) + {used}
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
x = torch.rand(4, 3)
for step in range(5):
    optimizer.zero_grad()
    model(x).sub(1).pow(2).mean().backward()
    optimizer.step()
"""


def causes(**parts: str) -> list[int]:
    source = PROGRAM.format(**{"more": "pass", **parts})
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "zero-factors" for cause in one.causes]


LOW_RANK = "F.linear(F.linear(x, self.first), self.second) * 2"


def test_the_call_that_zeroes_both_factors_is_named() -> None:
    more = "[nn.init.zeros_(p) for p in (self.first, self.second)]"
    parts = {"first": "torch.rand(2, 3)", "second": "torch.rand(3, 2)", "more": more, "used": LOW_RANK}
    assert causes(**parts) == [line_of(PROGRAM, "{more}")]


def test_zeros_that_had_a_name_before_they_were_parameters_are_named_where_they_are_made() -> None:
    source = PROGRAM.format(first="torch.rand(2, 3)", second="torch.zeros(3, 2)", more="pass", used=LOW_RANK)
    named = source.replace("self.first = nn.Parameter(torch.rand(2, 3))", "zeros = torch.zeros(2, 3)")
    named = named.replace("self.second = nn", "self.first = nn.Parameter(zeros); self.second = nn")
    answers = build(recorded(named)).answers
    lines = [cause.line for one in answers if one.code == "zero-factors" for cause in one.causes]
    assert lines == [line_of(named, "self.second ="), line_of(named, "zeros =")]


@pytest.mark.parametrize(
    ("first", "second", "used"),
    [
        ("torch.zeros(2, 3)", "torch.zeros(3, 2)", "(x @ self.first.T).relu() @ self.second.T"),
        ("torch.zeros(1)", "torch.zeros(3, 3)", "self.first * F.linear(x, self.second).tanh()"),
        ("torch.zeros(3, 3)", "torch.zeros(3)", "torch.matmul(x, self.first) * self.second.view(1, 3)"),
    ],
)
def test_the_lines_that_make_zeros_are_named(first: str, second: str, used: str) -> None:
    lines = [line_of(PROGRAM, "self.second ="), line_of(PROGRAM, "self.first =")]
    assert causes(first=first, second=second, used=used) == lines


@pytest.mark.parametrize(
    ("first", "second", "used"),
    [
        ("torch.rand(2, 3)", "torch.zeros(3, 2)", LOW_RANK),
        ("torch.zeros(2, 3)", "torch.rand(3, 2)", LOW_RANK),
        ("torch.zeros(3, 3)", "torch.zeros(3)", "F.linear(x, self.first, self.second)"),
        ("torch.zeros(2, 3)", "torch.zeros(3, 2)", "F.linear(F.linear(x, self.first).sigmoid(), self.second)"),
        ("torch.zeros(3)", "torch.zeros(3)", "0 * self.first + 0 * self.second"),
        ("torch.zeros(3)", "torch.zeros(3)", "(self.first + self.second).clamp(1, 2)"),
    ],
)
def test_zeros_that_get_a_gradient_or_do_not_for_other_reasons_are_not_told(first: str, second: str, used: str) -> None:
    assert causes(first=first, second=second, used=used) == []
