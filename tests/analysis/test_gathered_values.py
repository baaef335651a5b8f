"""Losses that were computed from what a collective gave."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """\
import torch, torch.distributed as dist, torch.distributed.nn.functional
from torch import nn
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
class Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        out = [torch.zeros_like(x)]
        dist.all_gather(out, x)
        return out[0]
    @staticmethod
    def backward(ctx, g):
        return g
def gather(x):
    out = [torch.zeros_like(x)]
    dist.all_gather(out, x)
    return torch.cat(out)
def joined(x):
    out = [torch.zeros_like(x)]
    dist.all_gather(out, x)
    return torch.cat([out[0][:0], x])
def quietly(x):
    with torch.no_grad():
        return gather(x)
encoder, head = nn.Linear(4, 3), nn.Linear(3, 2)
for step in range(2):
    features = encoder(torch.ones(2, 4))
    loss = {loss}
    loss.backward()
    shown = gather(loss[None])
    kept = gather(features)
dist.destroy_process_group()
"""
GATHER = 15
"""The line of the collective."""


def found(loss: str) -> list[str]:
    answers = build(recorded(PROGRAM.format(loss=loss))).answers
    gathered = [one for one in answers if one.code == "gathered-without-gradient"]
    assert [one.causes[0].line for one in gathered] == [GATHER] * len(gathered)
    return [one.text for one in gathered]


def test_what_it_is_given_and_which_parameters_have_no_other_way_is_told():
    (text,) = found("head(gather(features)).pow(2).sum()")
    assert text.startswith("Line 15: what all_gather gives of x goes into loss, and no gradient flows back through it")
    assert "encoder.weight and encoder.bias have no other way into it" in text
    (text,) = found("(features @ gather(features).T).sum()")
    assert "no other way" not in text


@pytest.mark.parametrize(
    "loss",
    [
        "head(features).pow(2).sum()",  # what was gathered is only shown
        "(features @ gather(features.detach()).T).sum()",
        "(features @ quietly(features).T).sum()",
        "(features @ joined(features).T).sum()",
        "(features @ Gather.apply(features).T).sum()",
        "(features @ torch.cat(torch.distributed.nn.functional.all_gather(features)).T).sum()",
        "features.pow(2).sum() / gather(features.sum()[None]).sum()",  # a number
    ],
)
def test_what_is_meant_is_no_news(loss: str):
    assert found(loss) == []
