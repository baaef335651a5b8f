"""A copy that takes over a trained model's parameters alone, where the model keeps statistics of its own in buffers."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(4))
        self.layer = nn.Linear(4, 1)
    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.centre.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return self.layer(x - self.centre)
net = Net()
average = copy.deepcopy(net).eval()
optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range(5):
    x = torch.randn(16, 4) + 3
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
NAMED = """        of = dict(average.named_parameters())
        for name, p in net.named_parameters():
            of[name].mul_(0.9).add_(p, alpha=0.1)
"""
WRITE = "self.centre.mul_(0.9).add_(x.mean(0), alpha=0.1)"


def found(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "average-without-statistics" for cause in one.causes]


@pytest.mark.parametrize("loop", [LOOP, NAMED], ids=["parameters", "named_parameters"])
@pytest.mark.parametrize("write", [WRITE, "self.centre.lerp_(x.mean(0), 0.1)", "self.centre.copy_(x.mean(0))"])
def test_the_loop_over_the_parameters_is_named(loop: str, write: str) -> None:
    source = SOURCE.replace(LOOP, loop).replace(WRITE, write)
    first, last = (one for one in loop.splitlines()[-2:])
    assert found(source) == [line_of(source, first.strip()), line_of(source, last.strip())]


def test_a_copy_that_was_made_by_the_class_and_a_helper_that_is_given_the_parameters() -> None:
    helper = "def follow(to, of):\n    for a, p in zip(to, of):\n        a.lerp_(p, 0.1)\n"
    call = "        follow(average.parameters(), net.parameters())\n"
    source = SOURCE.replace(LOOP, call).replace("optimizer =", helper + "optimizer =")
    source = source.replace("copy.deepcopy(net)", "Net()")
    assert found(source) == [line_of(source, call.strip()), line_of(source, "a.lerp_")]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (LOOP, LOOP + "        for a, b in zip(average.buffers(), net.buffers()): a.copy_(b)\n"),
        ("    average(torch.", "    average.centre.copy_(net.centre)\n    average(torch."),
        (".eval()", ""),
        (WRITE, "pass"),
        (WRITE, "self.centre.mul_(0.9)"),
        ("x - self.centre", "x"),
        ("range(5)", "range(2)"),
        ("    average(torch.", "    net.eval()(torch."),
        (LOOP, "        pass\n"),
    ],
    ids=[
        "copied",
        "copied before",
        "its own statistics",
        "nothing learned",
        "a schedule",
        "nothing takes it",
        "too few",
        "not used",
        "a frozen copy",
    ],
)
def test_buffers_that_are_written_or_that_nobody_needs_are_fine(before: str, after: str) -> None:
    assert before in SOURCE
    assert found(SOURCE.replace(before, after)) == []
