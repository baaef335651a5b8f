"""Statistics that a module keeps as plain tensors, and that a state which is loaded lacks."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """\
import copy
import torch

class Scaled(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {made}
        self.layer = torch.nn.Linear(3, 1)
    def forward(self, x):
        {update}
        return self.layer(x / self.scale)
    {more}

net = torch.nn.Sequential(Scaled(), torch.nn.Tanh())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    optimizer.zero_grad()
    net(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
{again}
again(torch.randn(8, 3))
"""
MADE = "self.scale = torch.ones(3)"
UPDATE = "if self.training: self.scale = 0.9 * self.scale + 0.1 * x.detach().std(0)"
AGAIN = "again = torch.nn.Sequential(Scaled(), torch.nn.Tanh()).eval(); again.load_state_dict(net.state_dict())"


def found(made: str = MADE, update: str = UPDATE, again: str = AGAIN, more: str = "pass") -> tuple[list[int], int]:
    source = SOURCE.format(made=made, update=update, again=again, more=more)
    answers = build(recorded(source)).answers
    lines = [cause.line for one in answers if one.code == "left-out-of-state" for cause in one.causes]
    return lines, line_of(source, made)


@pytest.mark.parametrize(
    "update",
    [
        UPDATE,
        "if self.training: self.scale.mul_(0.9).add_(x.detach().std(0), alpha=0.1)",
        "if self.training: self.scale = torch.maximum(self.scale, x.detach().abs().amax(0))",
        "if self.training: self.scale *= 1.01",
    ],
)
def test_the_line_that_makes_the_plain_tensor_is_named(update: str):
    lines, expected = found(update=update)
    assert lines == [expected]


@pytest.mark.parametrize(
    "changes",
    [
        {"made": "self.register_buffer('scale', torch.ones(3))"},
        {"made": "self.scale = torch.nn.Parameter(torch.ones(3), requires_grad=False)", "update": "pass"},
        {"update": "pass"},
        {"update": "self.scale = 0.9 * self.scale + 0.1 * x.detach().std(0)"},
        {"again": "again = copy.deepcopy(net).eval()"},
        {"again": AGAIN + "; again[0].scale = net[0].scale"},
        {"again": "state = net.state_dict(); net.load_state_dict(state); again = net.eval()"},
        {"again": "again = torch.nn.Sequential(Scaled()).eval(); net.load_state_dict(net.state_dict())"},
        {"more": "def get_extra_state(self): return self.scale\n    def set_extra_state(self, x): self.scale = x"},
    ],
)
def test_what_is_saved_set_by_hand_or_begun_anew_is_fine(changes: dict[str, str]):
    assert found(**changes)[0] == []
