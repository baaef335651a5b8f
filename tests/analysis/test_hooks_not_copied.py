"""Deep copies that are trained without the hooks of the original, and copies for which nothing is lost."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import copy, torch
from torch import nn
rows = torch.tensor([[0.0, 1.0, 1.0]])
def train(net, steps=2):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
def clip(grad):
    return grad.clamp(-1, 1)
def mask(grad):
    grad = grad.clone()
    grad[:, 0] = 0
    return grad
def show(grad):
    print(grad.norm())
base = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1), nn.Linear(1, 1))
weight = base[0].weight
"""
COPY = "net = copy.deepcopy(base)  # copy\n"


def found(source: str) -> list[tuple[list[int], str]]:
    answers = build(recorded(HEAD + source)).answers
    return [([cause.line for cause in one.causes], one.severity) for one in answers if one.code == "hook-not-copied"]


@pytest.mark.parametrize(
    ("source", "severity"),
    [
        ("weight.register_hook(clip)  # hook\n" + COPY + "train(net)", "warning"),
        ("weight.register_hook(lambda grad: grad * rows)  # hook\n" + COPY + "train(net)", "warning"),
        ("weight.register_hook(lambda g: g.clamp(-1, 1))  # hook\n" + COPY + "train(net)", "warning"),
        ("weight.register_hook(mask)  # hook\ntrain(base)\n" + COPY + "train(net)", "warning"),
        ("weight.register_hook(clip)  # hook\ntrain(base)\n" + COPY + "train(net)", "note"),
        (
            "weight.register_hook(mask)  # hook\nnets = [\n    copy.deepcopy(base)  # copy\n    for k in range(3)\n]\n"
            "for net in nets:\n    train(net)",
            "warning",
        ),
    ],
)
def test_a_copy_that_is_trained_without_it(source: str, severity: str) -> None:
    lines = [line_of(HEAD + source, "# copy"), line_of(HEAD + source, "# hook")]
    assert found(source) == [(lines, severity)]


@pytest.mark.parametrize(
    "source",
    [
        "weight.register_hook(clip)\n" + COPY + "net[0].weight.register_hook(clip)\ntrain(net)",
        COPY + "net[0].weight.register_hook(clip)\ntrain(net)",
        "weight.register_hook(clip)\n" + COPY + "train(base)\nprint(net(torch.ones(1, 3)))",
        "weight.register_hook(clip)\n" + COPY + "net[0].requires_grad_(False)\ntrain(net)",
        "weight.register_hook(show)\n" + COPY + "train(net)",
        "weight.register_hook(lambda grad: print(grad))\n" + COPY + "train(net)",
        "handle = weight.register_hook(clip)\nhandle.remove()\n" + COPY + "train(net)",
        COPY + "weight.register_hook(clip)\ntrain(net)",
        "base[1].weight.register_hook(clip)\nnet = copy.deepcopy(base[0])\ntrain(net)",
    ],
)
def test_what_loses_nothing(source: str) -> None:
    assert not found(source)
