"""Steps that half precision rounds away, and those that it does not or of which that is not known."""

from __future__ import annotations

import pytest
import torch

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.{}, nn.Linear(4, 1))
{}
for step in range(4):
    optimizer.zero_grad()
    net(torch.randn(6, 3, dtype=net[0].weight.dtype)).float().pow(2).mean().backward()
    optimizer.step()
"""
ADAM = "optimizer = torch.optim.{}(net.parameters(), lr={})"


def lines(body: str, norm: str = "LayerNorm(4)") -> list[int]:
    answers = build(recorded(PROGRAM.format(norm, body))).answers
    return [one.causes[0].line for one in answers if one.code == "update-rounded-away"]


@pytest.mark.parametrize("norm", ["LayerNorm(4)", "BatchNorm1d(4)", "RMSNorm(4)"])
@pytest.mark.parametrize("cast", ["net.bfloat16()", "net = net.to(torch.bfloat16)"])
def test_the_line_that_puts_the_weights_into_half_precision_is_the_cause(norm: str, cast: str) -> None:
    body = f"{cast}  # here\n{ADAM.format('AdamW', 1e-4)}"
    assert lines(body, norm) == [line_of(PROGRAM.format(norm, body), "# here")]


@pytest.mark.parametrize(
    "body",
    [
        ADAM.format("AdamW", 1e-4),
        "net.bfloat16()\n" + ADAM.format("AdamW", 1e-2),
        "net.bfloat16()\n" + ADAM.format("SGD", 1e-4),
        "net.bfloat16()\n" + ADAM.format("Adam", "1e-4, betas=(0.5, 0.9999)"),
        "net.bfloat16()\nnn.init.constant_(net[1].weight, 0.01)\n" + ADAM.format("Adam", 1e-4),
        "net.bfloat16()\n" + ADAM.format("Adam", 1e-4) + "\noptimizer.param_groups[0]['lr'] = 0.1",
        "net.bfloat16()\n"
        + ADAM.format("Adam", 1e-4)
        + "\nplan = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 100.0)",
    ],
)
def test_steps_that_are_large_enough_or_not_known_are_none(body: str) -> None:
    assert lines(body) == []


@pytest.mark.parametrize(("dtype", "half"), [(torch.bfloat16, 2.0**-9), (torch.float16, 2.0**-12)])
def test_what_torch_rounds_away(dtype: torch.dtype, half: float) -> None:
    one = torch.ones((), dtype=dtype)
    assert one - torch.tensor(0.999 * half, dtype=dtype) == one
    assert one - torch.tensor(1.01 * half, dtype=dtype) < one
