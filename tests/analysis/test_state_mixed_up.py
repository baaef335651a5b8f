"""States that are loaded for parameters in another order, and those that are not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy, io
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return self.b(self.a(x).tanh())

def train(net, optimizer):
    for _ in range(3):
        optimizer.zero_grad()
        net(torch.randn(6, 4)).pow(2).mean().backward()
        optimizer.step()

net = Net()
optimizer = {optimizer}([*net.a.parameters(), *net.b.parameters()], lr=0.01)
train(net, optimizer)
buffer = io.BytesIO()
torch.save({{"net": net.state_dict(), "optimizer": optimizer.state_dict()}}, buffer)
buffer.seek(0)
{between}
saved = torch.load(buffer)
net = Net()
{loads}
optimizer = {optimizer}({order}, lr=0.01)  # makes
optimizer.load_state_dict(saved["optimizer"])
train(net, optimizer)
"""
USUAL = {
    "optimizer": "torch.optim.Adam",
    "between": "pass",
    "loads": "net.load_state_dict(saved['net'])",
    "order": "[*net.b.parameters(), *net.a.parameters()]",
}


def said(**changed: str) -> list[int]:
    source = PROGRAM.format(**{**USUAL, **changed})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome.message
    lines = [one.causes[0].line for one in build(recording).answers if one.code == "state-mixed-up"]
    assert lines in ([], [line_of(source, "# makes")])
    return lines


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"optimizer": "torch.optim.AdamW"},
        {
            "order": "[{'params': net.b.parameters()}, {'params': net.a.parameters()}]",
            "between": "optimizer = torch.optim.Adam([{'params': one.parameters()} for one in (net.a, net.b)]); "
            "train(net, optimizer); buffer = io.BytesIO(); "
            "torch.save({'net': net.state_dict(), 'optimizer': optimizer.state_dict()}, buffer); buffer.seek(0)",
        },
        {"between": "train(net, optimizer)"},
        {
            "order": "[p for n, p in sorted(net.named_parameters(), key=lambda one: one[1].dim())][:2] + "
            "[net.a.weight, net.b.weight]",
            "between": "optimizer = torch.optim.Adam([net.b.bias, net.a.bias, net.a.weight, net.b.weight]); "
            "train(net, optimizer); buffer = io.BytesIO(); "
            "torch.save({'net': net.state_dict(), 'optimizer': optimizer.state_dict()}, buffer); buffer.seek(0)",
        },
    ],
)
def test_parameters_in_another_order_are_seen(changed: dict[str, str]) -> None:
    assert said(**changed)


@pytest.mark.parametrize(
    "changed",
    [
        {"order": "net.parameters()"},
        {"loads": "pass"},
        {"loads": "net.load_state_dict(saved['net']); net.a.load_state_dict(net.b.state_dict())"},
        {"order": "[*net.a.parameters(), *net.b.parameters()]", "between": "train(net, optimizer)"},
    ],
)
def test_the_same_order_and_other_values_are_none(changed: dict[str, str]) -> None:
    assert said(**changed) == []
