"""A running average that the model computes with is to follow the data of training: what evaluations mix in is told."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(4))
    @torch.no_grad()
    def follow(self, x):
        self.mean.lerp_(x.mean(0), 0.1)  # mixed
    def forward(self, x):
        self.follow(x)  # called
        return x - self.mean
model = nn.Sequential(nn.Linear(4, 4), Scale(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(3):
    model.train()
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).pow(2).mean().backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 4))
"""


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert {one.code for one in answers} <= {"average-in-evaluation"}
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    "mixed",
    [
        "self.mean.lerp_(x.mean(0), 0.1)",
        "self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)",
        "self.mean.copy_(0.9 * self.mean + 0.1 * x.mean(0))",
    ],
)
def test_the_call_of_what_mixes_is_named(mixed: str):
    source = SOURCE.replace("self.mean.lerp_(x.mean(0), 0.1)", mixed)
    assert found(source) == [line_of(source, "# called"), line_of(source, "# mixed")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("        self.follow(x)", "        if self.training: self.follow(x)"),
        ("return x - self.mean", "return x"),
        ("    model.eval()\n", ""),
        ("self.mean.lerp_(x.mean(0), 0.1)", "self.mean.copy_(x.mean(0))"),
        ("    with torch.no_grad():\n        for _ in range(2):\n            model(torch.randn(8, 4))\n", ""),
    ],
    ids=["guarded", "a meter", "never evaluated", "the last value", "nothing ran"],
)
def test_what_training_alone_mixes_or_nothing_is_computed_with_is_fine(before: str, after: str):
    answers = build(recorded(SOURCE.replace(before, after))).answers
    assert "average-in-evaluation" not in {one.code for one in answers}
