"""A deep copy whose functions go on with the original: the line that gives it such a function is named."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import copy, functools, types
import torch
from torch import nn
def patch(module):
    old = module.forward
    def new(x):
        return old(x).float()
    module.forward = new  # given
    return module
def bound(self, x):
    return type(self).forward(self, x).float()
class Gain(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))
        self.act = torch.tanh  # kept
    def forward(self, x):
        return self.act(x) * self.gain
net = nn.Sequential(patch(nn.Linear(3, 2)))  # made
teacher = copy.deepcopy(net).requires_grad_(False).eval()  # copied
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    x = torch.randn(5, 3)
    loss = (net(x) - teacher(x) - 1).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for t, p in zip(teacher.parameters(), net.parameters()):
            t.lerp_(p, 0.1)
"""
GAIN = SOURCE.replace("    module.forward = new  # given\n", "").replace(
    "nn.Sequential(patch(nn.Linear(3, 2)))", "Gain()"
)
GAIN = GAIN.replace("randn(5, 3)", "randn(5, 2)")


def found(source: str) -> list[int]:
    answers = [one for one in build(recorded(source)).answers if one.code == "copy-runs-original"]
    return [cause.line for one in answers for cause in one.causes]


def test_a_forward_that_is_a_closure_is_named() -> None:
    assert found(SOURCE) == [line_of(SOURCE, "# given"), line_of(SOURCE, "# copied")]


def test_a_lambda_that_reads_self_is_named() -> None:
    source = GAIN.replace("torch.tanh  # kept", "lambda x: x * self.gain  # kept").replace(
        "self.act(x) * self.gain", "self.act(x)"
    )
    assert found(source) == [line_of(source, "# kept"), line_of(source, "# copied")]


@pytest.mark.parametrize(
    "source",
    [
        SOURCE.replace("module.forward = new ", "module.forward = functools.partial(bound, module) "),
        SOURCE.replace("module.forward = new ", "module.forward = types.MethodType(bound, module) "),
        SOURCE.replace("copy.deepcopy(net)", "nn.Sequential(patch(nn.Linear(3, 2)))"),
        SOURCE.replace("teacher(x)", "0"),
        GAIN,
    ],
    ids=["partial", "method", "built anew", "not called", "no closure"],
)
def test_what_is_copied_with_its_object_is_fine(source: str) -> None:
    assert found(source) == []
