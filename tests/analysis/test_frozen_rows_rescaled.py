"""Frozen embeddings with max_norm that were given vectors, and those that are trained, normalized, or a teacher's."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

TABLE = """import copy, torch
from torch import nn
vectors = torch.randn(5, 3) * 4
table = nn.Embedding(5, 3, max_norm=1.0)  # makes
with torch.no_grad():
    table.weight.copy_(vectors)
table.weight.requires_grad_(False)
head = nn.Linear(3, 1)
for step in range(3):
    head(table(torch.arange(4))).sum().backward()
"""
GIVEN = """import torch
from torch import nn
table = nn.Embedding.from_pretrained(torch.randn(5, 3) * 4, max_norm=1.0)  # makes
head = nn.Linear(3, 1)
for step in range(3):
    head(table(torch.arange(4))).sum().backward()
"""
TEACHER = """import copy, torch
from torch import nn
student = nn.Embedding(5, 3, max_norm=1.0)
with torch.no_grad():
    student.weight.copy_(torch.randn(5, 3))
teacher = copy.deepcopy(student).requires_grad_(False)
with torch.no_grad():
    teacher.weight.copy_(student.weight)
for step in range(3):
    (student(torch.arange(4)) - teacher(torch.arange(4))).pow(2).sum().backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "frozen-rows-rescaled" for cause in one.causes]


@pytest.mark.parametrize(
    "source",
    [
        TABLE,
        TABLE.replace("with torch.no_grad():\n    table.weight.copy_(vectors)", "table.weight.data = vectors"),
        GIVEN,
        GIVEN.replace("max_norm=1.0", "freeze=True, max_norm=1.0"),
    ],
)
def test_the_line_that_makes_the_embedding(source: str) -> None:
    assert lines(source) == [line_of(source, "# makes")]


@pytest.mark.parametrize(
    "source",
    [
        TABLE.replace(", max_norm=1.0", ""),
        TABLE.replace("table.weight.requires_grad_(False)\n", ""),
        TABLE.replace("torch.randn(5, 3) * 4", "nn.functional.normalize(torch.randn(5, 3), dim=1)"),
        TABLE.replace("    table.weight.copy_(vectors)", "    pass"),  # its own random values
        GIVEN.replace(", max_norm=1.0", ""),
        GIVEN.replace("max_norm=1.0", "freeze=False, max_norm=1.0"),
        GIVEN.replace("torch.randn(5, 3) * 4", "nn.functional.normalize(torch.randn(5, 3))"),
        TEACHER,
    ],
)
def test_what_is_trained_or_keeps_its_vectors_is_none(source: str) -> None:
    assert lines(source) == []
