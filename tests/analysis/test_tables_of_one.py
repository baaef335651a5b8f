"""Embeddings of one pretrained tensor that are trained apart."""

from __future__ import annotations

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
vectors = torch.randn(5, 3)
def make():
    return nn.Embedding.from_pretrained({}, freeze={})  # made
def fit(table, steps=4):
    head = nn.Linear(3, 1)
    opt = torch.optim.SGD([*table.parameters(), *head.parameters()], lr=0.1)
    for _ in range(steps):
        opt.zero_grad()
        head(table(torch.arange(5))).pow(2).mean().backward()
        opt.step()
a, b = make(), {}
fit(a)
fit(b)
print(a(torch.arange(5)).sum())
"""


def lines(given: str = "vectors", freeze: str = "False", second: str = "make()") -> list[int]:
    answers = build(recorded(SOURCE.format(given, freeze, second))).answers
    return [cause.line for one in answers if one.code == "tied-by-data" for cause in one.causes]


def test_two_tables_on_one_memory_are_told_of() -> None:
    assert lines() == [line_of(SOURCE, "# made")]


def test_copies_frozen_ones_and_one_table_are_fine() -> None:
    assert lines("vectors.clone()") == []
    assert lines(freeze="True") == []
    assert lines(second="a") == []
