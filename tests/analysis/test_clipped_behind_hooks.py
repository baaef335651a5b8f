"""Clipping after a backward pass in which a hook has stepped and cleared each gradient: it finds none."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FUSED = """import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1))
slots = {p: torch.optim.SGD([p], lr=0.1) for p in net.parameters()}
def apply(p):
    slots[p].step()
    slots[p].zero_grad()
for p in net.parameters():
    p.register_post_accumulate_grad_hook(apply)  # registers
for step in range(3):
    net(torch.ones(2, 3)).pow(2).mean().backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.1)  # clips
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "clipped-in-vain" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("slots[p].zero_grad()", "p.grad = None"),
        ("slots[p].step()", "p.data.add_(p.grad, alpha=-0.1)"),
    ],
)
def test_the_clipping_and_the_hook_are_the_causes(old: str, new: str) -> None:
    source = FUSED.replace(old, new)
    assert lines(source) == [line_of(source, "# clips"), line_of(source, "# registers")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    slots[p].step()", "    nn.utils.clip_grad_norm_([p], 0.1)\n    slots[p].step()"),
        ("slots[p].step()\n    slots[p].zero_grad()", "pass"),
        ("net.parameters():\n", "net[0].parameters():\n"),  # the others have gradients
    ],
)
def test_what_there_is_to_clip_is_none(old: str, new: str) -> None:
    assert old in FUSED
    source = FUSED.replace(old, new)
    if "clip_grad_norm_([p]" in new:
        source = source.replace("    nn.utils.clip_grad_norm_(net.parameters(), 0.1)  # clips\n", "")
    assert lines(source) == []
