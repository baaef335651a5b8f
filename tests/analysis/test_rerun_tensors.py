"""Checkpointed functions that read an attribute which names another tensor by the time backward runs them again."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.lin = nn.Linear(3, 3)
        self.state = torch.ones(1, 3)
    def mix(self, x, state=None):
        return torch.tanh(self.lin(x) * ({}))
    def forward(self, x):
        h = {}
        {}
        return h
net = Cell()
for step in range(3):
    net(torch.randn(4, 3)).sum().backward()
    {}
"""
KEEPS = "self.state = 0.5 * self.state + h.detach().mean(0, keepdim=True)"
CALL = "checkpoint(self.mix, x, use_reentrant=False)"


def lines(call: str = CALL, keeps: str = KEEPS, after: str = "pass", reads: str = "self.state") -> list[int]:
    answers = build(recorded(SOURCE.format(reads, call, keeps, after))).answers
    return [cause.line for one in answers if one.code == "checkpoint-runs-otherwise" for cause in one.causes]


def test_the_line_that_stores_another_tensor_is_named_first() -> None:
    assert lines() == [13, 12]


@pytest.mark.parametrize(
    "given",
    [
        {"call": "self.mix(x)"},
        {"keeps": "self.kept = h.detach()"},
        {"keeps": "pass", "after": "net.state = net.state * 0.5"},
        {"call": "checkpoint(self.mix, x, self.state, use_reentrant=False)", "reads": "state"},
    ],
)
def test_what_is_not_run_again_changed_later_or_handed_over_is_fine(given: dict[str, str]) -> None:
    assert lines(**given) == []
