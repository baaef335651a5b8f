"""Outputs that forward hooks keep and calls in place overwrite."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
from torch import nn
net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(True))
kept = []
HOOK
y = net(torch.randn(2, 3, 8, 8))
loss = sum(one.pow(2).mean() for one in kept) + y.mean()
loss.backward()
"""


def lines(hook: str) -> list[int]:
    answers = build(recorded(SOURCE.replace("HOOK", hook))).answers
    return [cause.line for one in answers if one.code == "hook-output-overwritten" for cause in one.causes[:1]]


def test_the_line_that_keeps_it_is_named():
    assert lines("net[1].register_forward_hook(lambda module, args, output: kept.append(output))") == [5]


@pytest.mark.parametrize(
    "hook",
    [
        "net[2].register_forward_hook(lambda module, args, output: kept.append(output))",
        "net[0].register_forward_hook(lambda module, args, output: kept.append(output))",
        "net[1].register_forward_hook(lambda module, args, output: kept.append(output.clone()))",
        "net[1].register_forward_hook(lambda module, args, output: kept.append(output.mean()))",
    ],
)
def test_what_is_copied_or_written_before_the_hook_or_by_nobody_is_fine(hook: str):
    assert lines(hook) == []
