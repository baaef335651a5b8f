"""A layer whose result a statement drops, as if it changed what it is given: ``self.norm(h)``."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

NET = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(4, 8), nn.Linear(8, 1)
        self.norm, self.stats = nn.LayerNorm(8), nn.BatchNorm1d(8)
        self.kept = []
    def forward(self, x):
        h = self.inner(x)
        {}
        return self.outer(torch.relu(h))
net = Net()
{}
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    net(torch.randn(6, 4)).pow(2).mean().backward()
    optimizer.step()
"""


def dropped(body: str, before: str = "") -> list[Answer]:
    return [one for one in build(recorded(NET.format(body, before))).answers if one.code == "result-dropped"]


@pytest.mark.parametrize("body", ["self.norm(h)", "if self.training:\n            self.norm(h)"])
def test_a_layer_in_vain(body: str) -> None:
    (answer,) = dropped(body)
    line = line_of(NET.format(body, ""), "self.norm(h)")
    assert answer.text.startswith(
        f"Line {line}: self.norm(h) gives a new tensor, which nothing takes: h stays as it is"
    )
    assert [cause.line for cause in answer.causes] == [line]


@pytest.mark.parametrize(
    ("body", "before"),
    [
        ("h = self.norm(h)", ""),
        ("self.kept = self.norm(h)", ""),
        ("self.norm(h)", "net.norm.register_forward_hook(lambda module, given, result: net.kept.append(result))"),
        ("self.stats(h)", ""),  # its statistics are what it is called for
        ("self.norm(h); h = h + self.norm(h)", ""),
        ("self.norm(x.repeat(1, 2))", ""),  # x is not gone on with as if it were changed
    ],
)
def test_a_layer_that_is_called_for_something(body: str, before: str) -> None:
    assert not dropped(body, before)
