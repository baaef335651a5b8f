"""A call that adds a frozen part and freezes one in training: told; freezing on purpose is silent."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict()
    def add(self, name, trained):
        self.parts[name] = nn.Linear(3, 3)
        self.mode(name, trained)  # called
    def mode(self, name, trained):
        MODE
    def forward(self, x):
        return self.parts["policy"](x)
net, head = Model(), nn.Linear(3, 1)
net.add("policy", True)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], 0.1)
AFTER
for step in range(4):
    optimizer.zero_grad()
    head(net(torch.rand(5, 3))).sum().backward()
    optimizer.step()
"""
ALL = "self.requires_grad_(trained)"
ADDED = 'net.add("reference", False)'


def said(mode: str, after: str) -> list[Answer]:
    source = LOOP.replace("MODE", mode).replace("AFTER", after)
    return [one for one in build(recorded(source)).answers if one.code == "frozen-with-new"]


def test_the_line_within_what_adds_is_named_and_where_it_was_called() -> None:
    (answer,) = said(ALL, ADDED)
    assert [cause.line for cause in answer.causes] == [line_of(LOOP, "# called"), line_of(LOOP, "AFTER")]
    assert "net.parts.policy.weight and net.parts.policy.bias" in answer.text


@pytest.mark.parametrize(
    ("mode", "after"),
    [
        ("self.parts[name].requires_grad_(trained)", ADDED),
        (ALL, 'net.mode("policy", False)'),
        (ALL, 'net.add("column", False); net.parts["policy"].requires_grad_(True)'),
        (ALL, 'net.add("column", False); optimizer.add_param_group({"params": net.parts["column"].parameters()})'),
        ("pass", 'net.add("column", False); net.requires_grad_(False)'),
    ],
)
def test_freezing_on_purpose_and_what_is_switched_on_again_is_fine(mode: str, after: str) -> None:
    assert not said(mode, after)
