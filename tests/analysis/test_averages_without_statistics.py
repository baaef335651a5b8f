"""A copy that takes over a trained model's parameters alone normalises with the statistics of the start."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1))
average = copy.deepcopy(net).eval()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(5):
    net.train()
    x = torch.randn(16, 4)
    loss = (net(x) - x.sum(1, keepdim=True)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for a, p in zip(average.parameters(), net.parameters()):
            a.lerp_(p, 0.1)
with torch.no_grad():
    average(torch.randn(8, 4))
"""
LOOP = "        for a, p in zip(average.parameters(), net.parameters()):\n            a.lerp_(p, 0.1)\n"
WRITES = {
    "data": LOOP.replace("a.lerp_(p, 0.1)", "a.data = 0.9 * a.data + 0.1 * p.data"),
    "multiplied": LOOP.replace("a.lerp_(p, 0.1)", "a.data.mul_(0.9).add_(p.data, alpha=0.1)"),
    "copied": LOOP.replace("a.lerp_(p, 0.1)", "a.copy_(0.9 * a + 0.1 * p)"),
    "difference": LOOP.replace("a.lerp_(p, 0.1)", "a.sub_((a - p).mul_(0.1))"),
    "all at once": "        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 0.1)\n",
}


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    assert {one.code for one in answers} <= {"average-without-statistics"}
    return [cause.line for one in answers for cause in one.causes]


@pytest.mark.parametrize("written", [LOOP, *WRITES.values()], ids=["lerp", *WRITES])
def test_the_line_that_writes_the_parameters_is_named(written: str):
    source = SOURCE.replace(LOOP, written)
    lines = [one.strip() for one in written.strip().splitlines()]
    loops = [line_of(source, one) for one in lines if one.startswith("for ") and "parameters()" in one]
    assert found(source) == [*loops, line_of(source, lines[-1])]


def test_a_helper_that_is_given_the_parameters_is_named_where_it_is_called():
    helper = "def follow(to, of):\n    for a, p in zip(to, of):\n        a.lerp_(p, 0.1)\n"
    call = "        follow(average.parameters(), net.parameters())\n"
    source = SOURCE.replace(LOOP, call).replace("optimizer =", helper + "optimizer =")
    assert found(source) == [line_of(source, call.strip()), line_of(source, "a.lerp_")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "a.lerp_(p, 0.1)\n",
            "a.lerp_(p, 0.1)\n        for a, p in zip(average.buffers(), net.buffers()): a.copy_(p)\n",
        ),
        ("average(torch.", "torch.optim.swa_utils.update_bn([x], average)\n    average(torch."),
        ("average(torch.", "average[1].running_mean = net[1].running_mean.clone()\n    average(torch."),
        ("    net.train()", "    net.eval()"),
        (".eval()", ""),
        ("nn.BatchNorm1d(8)", "nn.LayerNorm(8)"),
        ("range(5)", "range(2)"),
    ],
    ids=["buffers copied", "learned anew", "replaced", "nothing learned", "own statistics", "no statistics", "too few"],
)
def test_statistics_that_are_written_or_that_nobody_needs_are_fine(before: str, after: str):
    assert found(SOURCE.replace(before, after)) == []
