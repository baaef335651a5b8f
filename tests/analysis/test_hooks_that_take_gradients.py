"""Hooks that run when a gradient was accumulated, and take it away or make it zero."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
norms = []
def watch(parameter):
    norms.append(parameter.grad.norm().item())
    parameter.grad = None  # clears
for parameter in net.parameters():
    parameter.register_post_accumulate_grad_hook(watch)  # registers
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(6):
    loss = net(torch.randn(16, 4)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
METHOD = """
import torch
torch.manual_seed(0)
class Trainer:
    def __init__(self):
        self.net, self.seen = torch.nn.Linear(4, 1), {}
        self.optimizer = torch.optim.Adam(self.net.parameters())
        for parameter in self.net.parameters():
            parameter.register_post_accumulate_grad_hook(self.keep)  # registers
    def keep(self, parameter):
        self.seen[id(parameter)] = parameter.grad.clone()
        parameter.grad.zero_()  # clears
    def fit(self):
        for step in range(6):
            self.net(torch.randn(16, 4)).square().mean().backward()
            self.optimizer.step()
Trainer().fit()
"""


def told(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.severity != "note"]


@pytest.mark.parametrize("source", [SOURCE, METHOD, SOURCE.replace("parameter.grad = None", "parameter.grad *= 0")])
def test_the_line_that_clears_is_told(source: str) -> None:
    (one,) = told(source)
    assert one.code == "hook-zeroes-gradient"
    lines = [line_of(source, "# clears")] if "*= 0" not in source else []
    assert [cause.line for cause in one.causes] == [*lines, line_of(source, "# registers")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # it moves the parameter first, as a step would
        ("parameter.grad = None", "parameter.data.sub_(parameter.grad, alpha=0.1); parameter.grad = None"),
        # the gradient is put back before the step
        (
            "    optimizer.step()\n",
            "    for parameter, kept in zip(net.parameters(), reversed(norms[-4:])):\n"
            "        parameter.grad = torch.full_like(parameter, kept)\n    optimizer.step()\n",
        ),
        # nothing steps; an optimizer of other things does
        ("    optimizer.step()\n", ""),
        ("torch.optim.SGD(net.parameters(), lr=0.1)", "torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)"),
        # one layer is left out by choice
        ("    parameter.grad = None", "    if parameter.shape == (1, 8): parameter.grad = None"),
        ("parameter.grad = None", "parameter.grad.clamp_(-1, 1)"),
    ],
)
def test_what_is_meant_is_none(old: str, new: str) -> None:
    assert old in SOURCE
    assert "hook-zeroes-gradient" not in {one.code for one in told(SOURCE.replace(old, new))}
