"""Attributes of modules that are zeros and stay so, where a product takes them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

GATED = """import torch
from torch import nn
class Gate(nn.Module):
    def __init__(self, size=3, device="cpu"):
        super().__init__()
        self.body = nn.Linear(size, size)
        self.alpha = torch.zeros(size)  # here
    def forward(self, x):
        return x + self.alpha * self.body(x)  # used
model = nn.Sequential(nn.Linear(3, 3), Gate(), nn.Linear(3, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = model(torch.rand(5, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()
"""


def lines(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "zeros-not-learned"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("torch.zeros(size)", "torch.zeros((size,)).to(device)"),
        ("self.alpha * self.body(x)", "self.body(x) * self.alpha"),
        ("self.alpha * self.body(x)", "torch.mul(self.alpha, self.body(x))"),
        ("Gate(), nn.Linear(3, 1)", "Gate(), Gate(), nn.Linear(3, 1)"),
    ],
)
def test_the_attribute_is_the_cause(old: str, new: str) -> None:
    source = GATED.replace(old, new)
    assert lines(source) == [[line_of(source, "# here"), line_of(source, "# used")]]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.zeros(size)", "nn.Parameter(torch.zeros(size))"),
        ("torch.zeros(size)", "torch.zeros(size, requires_grad=True)"),
        ("torch.zeros(size)", "torch.ones(size)"),
        ("self.alpha = torch.zeros(size)", 'self.register_buffer("alpha", torch.zeros(size))'),
        ("self.alpha *", "(1 + self.alpha) *"),
        ("    optimizer.step()", "    optimizer.step()\n    model[1].alpha = torch.full((3,), 0.1 * step)"),
        ("    optimizer.step()", "    optimizer.step()\n    model[1].alpha.fill_(0.1 * step)"),
        ("    optimizer.step()", "    optimizer.step()\n    setattr(model[1], 'alpha', torch.ones(3))"),
        ("optimizer.step()", "pass"),
    ],
)
def test_what_is_learned_or_changed_is_none(old: str, new: str) -> None:
    assert lines(GATED.replace(old, new)) == []
