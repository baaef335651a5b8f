"""Hooks that take the input of a module which works in place; and those that take what they are meant to."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(4, 1))
kept = []
def keep(module, inputs, output):
    KEEPS
REGISTERS
for step in range(2):
    kept.clear()
    y = net(torch.randn(5, 3))
    loss = y.pow(2).mean() + sum(torch.relu(-one).mean() for one in kept)
    loss.backward()
"""
KEEPS, ON = "kept.append(inputs[0])", "net[1].register_forward_hook(keep)"
BY_CLASS = "for m in net.modules():\n    if isinstance(m, nn.ReLU):\n        m.register_forward_hook(keep)"


def found(keeps: str = KEEPS, on: str = ON, **others: str) -> list[str]:
    source = SOURCE.replace("KEEPS", keeps).replace("REGISTERS", on)
    for before, after in others.values():
        source = source.replace(before, after)
    answers = [one for one in build(recorded(source)).answers if one.code == "hook-output-overwritten"]
    lines = source.lstrip().splitlines()
    return [lines[cause.line - 1].strip() for one in answers for cause in one.causes]


MADE = "net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(4, 1))"


@pytest.mark.parametrize("keeps", [KEEPS, "kept.append(inputs[0].detach())", "(x,) = inputs\n    kept.append(x)"])
@pytest.mark.parametrize("on", [ON, BY_CLASS, "act = net[1]\nact.register_forward_hook(keep)"])
def test_the_line_that_registers_the_hook_is_named(keeps: str, on: str) -> None:
    assert found(keeps, on) == [on.splitlines()[-1].strip(), MADE, keeps.splitlines()[-1].strip()]


def test_a_hook_that_computes_with_its_input() -> None:
    keeps = "kept.append((inputs[0] < 0).float().mean())"
    assert found(keeps) == [ON, MADE, keeps]


def test_what_a_hook_before_the_module_keeps_is_overwritten_too() -> None:
    assert found(on="net[1].register_forward_pre_hook(lambda m, args: kept.append(args[0]))")[1:2] == [MADE]


def test_a_forward_of_the_programs() -> None:
    net = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 1)
    def forward(self, x):
        h = self.first(x)
        h = self.act(h)
        return self.last(h)
net = Net()"""
    on = "net.act.register_forward_hook(keep)"
    assert found(on=on, net=(MADE, net)) == [on, net.splitlines()[4].strip(), KEEPS]
    beside = net.replace("h = self.act(h)", "self.seen = h\n        h = self.act(h)")
    assert found(on=on, net=(MADE, beside)) == []


@pytest.mark.parametrize(
    ("keeps", "on"),
    [
        (KEEPS, "net[2].register_forward_hook(keep)"),
        (KEEPS, BY_CLASS.replace("nn.ReLU", "nn.Dropout")),
        (KEEPS, BY_CLASS.replace("nn.ReLU", "(nn.ReLU, nn.Dropout)")),
        ("kept.append(output)", ON),
        ("kept.append(output.mean())", ON),
        ("kept.append(inputs[0].mean())", "net[2].register_forward_hook(keep)"),
        ("pass", "net[1].register_forward_pre_hook(lambda m, args: kept.append(args[0].clone()))"),
        ("pass", "net[1].register_forward_pre_hook(lambda m, args: kept.append(args[0].mean()))"),
    ],
)
def test_the_module_behind_it_or_its_output_or_a_copy_is_quiet(keeps: str, on: str) -> None:
    assert found(keeps, on) == []


def test_a_module_that_gives_a_new_tensor_is_quiet() -> None:
    assert found(net=("inplace=True", "")) == []
