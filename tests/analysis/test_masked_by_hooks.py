"""Pruned weights whose gradient a hook masks: the momentum of the steps before the pruning moves them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
masks = {}
def make():
    return torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)  # makes
optimizer = make()
def train(steps):
    for _ in range(steps):
        x = torch.rand(16, 6)
        optimizer.zero_grad()
        (net(x) - x.sum(1, keepdim=True)).pow(2).mean().backward()
        optimizer.step()
        # after
def prune():
    for layer in (net[0], net[2]):
        mask = (layer.weight.detach().abs() > layer.weight.detach().abs().median()).float()
        with torch.no_grad():
            layer.weight.mul_(mask)  # masks
        layer.weight.register_hook(lambda grad, mask=mask: grad * mask)  # hooks
        masks[layer.weight] = mask
train(4)
prune()  # prunes
train(8)
"""
MASKS = "layer.weight.mul_(mask)  # masks"
HOOKS = "layer.weight.register_hook(lambda grad, mask=mask: grad * mask)  # hooks"
MAKES = "torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)"


def told(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "moved-without-gradient"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (MASKS, MASKS),
        (MASKS, "layer.weight[mask == 0] = 0  # masks"),
        (MASKS, "layer.weight.data = layer.weight.data * mask  # masks"),
        (MAKES, "torch.optim.Adam(net.parameters(), lr=0.01)"),
        (
            HOOKS,
            "def hook(p, mask=mask):\n            p.grad.mul_(mask)\n"
            "        layer.weight.register_post_accumulate_grad_hook(hook)  # hooks",
        ),
    ],
    ids=["in place", "item", "data", "adam", "accumulated"],
)
def test_momentum_from_before_the_pruning_is_told(old: str, new: str) -> None:
    source = PROGRAM.replace(old, new)
    lines = [line_of(source, mark) for mark in ("# prunes", "# masks", "# makes", "optimizer.step()")]
    assert told(source) == [lines]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("prune()  # prunes", "prune()\noptimizer = make()"),
        ("prune()  # prunes", "prune()\noptimizer.state.clear()"),
        (MAKES, "torch.optim.SGD(net.parameters(), lr=0.05)"),
        ("# after", "[p.data.mul_(mask) for p, mask in masks.items()]"),
        ("train(4)\n", ""),
        ("train(8)\n", "train(1)\n"),
    ],
    ids=["new optimizer", "cleared", "no momentum", "masked again", "from the start", "one step"],
)
def test_what_stays_zero_or_is_not_known_to_move_is_fine(old: str, new: str) -> None:
    source = PROGRAM.replace(old, new)
    assert source != PROGRAM
    assert told(source) == []
