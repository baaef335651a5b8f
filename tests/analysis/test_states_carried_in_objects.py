"""A state that an object carries on with its graph, and keeps: the line that carries is named, not the model's."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTMCell(6, 32), nn.Linear(32, 3)
    def forward(self, x, state):
        h, c = self.cell(x, state)
        return self.head(h), (h, c)

class Runner:
    def __init__(self):
        self.policy, self.rows = Policy(), []
        self.optimizer = torch.optim.SGD(self.policy.parameters(), lr=0.1)
        self.state = (torch.zeros(4, 32), torch.zeros(4, 32))
    def rollout(self):
        for _ in range(16):
            x = torch.randn(4, 6)
            y, new = self.policy(x, self.state)
            self.rows.append({{"x": x, "h": self.state[0], "c": self.state[1]}})
            {carry}
    def train(self):
        kept = tuple(torch.cat([row[name] for row in self.rows[-8:]]).detach() for name in ("h", "c"))
        y, _ = self.policy(torch.cat([row["x"] for row in self.rows[-8:]]), kept)
        self.optimizer.zero_grad()
        y.pow(2).mean().backward()
        self.optimizer.step()

runner = Runner()
for epoch in range(6):
    runner.rollout()
    runner.train()
"""


@pytest.mark.parametrize(
    ("carry", "is_found"),
    [
        ("self.state = new", True),
        ("h, c = new; self.state = tuple(one.detach() for one in new)", False),
    ],
)
def test_the_line_that_carries_on(carry: str, is_found: bool) -> None:
    answers = build(recorded(PROGRAM.format(carry=carry))).answers
    found = [answer.causes[0].line for answer in answers if answer.code == "memory-kept-by-graph"]
    assert found == ([line_of(PROGRAM, "{carry}")] if is_found else [])
