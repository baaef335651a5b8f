"""A hook that was registered for one pass and runs in the next leads into the graph that the first used up."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.layers = nn.Linear(3, 2), nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
        self.handles, self.seen = [], []
{attach}
    def forward(self, x):
        y = x
        self.attach(self.gate(x).softmax(-1))
        for layer in self.layers:
            y = torch.tanh(layer(y))
        {after}
        return y

net = Scaled()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    net(torch.rand(4, 3)).pow(2).sum().backward()
    optimizer.step()
"""
OUTPUTS = """
    def attach(self, weights):
        def scale(module, args, output):
            return output * weights[:, :1]
        for layer in self.layers:
            self.handles.append(layer.register_forward_hook(scale))  # here
"""
INPUTS = """
    def attach(self, weights):
        def scale(module, args):
            module.factor = weights[:, :1]
            return (args[0] * module.factor,)
        for layer in self.layers:
            self.handles.append(layer.register_forward_pre_hook(scale))  # here
"""
KEPT_BY_HOOK = """
    def attach(self, weights):
        def keep(module, args, output):
            self.seen.append(output)
            return output + self.seen[0].sum()
        for layer in self.layers:
            self.handles.append(layer.register_forward_hook(keep))
"""


def told(attach: str, after: str) -> tuple[list[int], list[str], str]:
    source = PROGRAM.format(attach=attach, after=after)
    answers = [one for one in build(recorded(source)).answers if one.code == "graph-used-twice"]
    return [cause.line for one in answers for cause in one.causes], [one.text for one in answers], source


@pytest.mark.parametrize("attach", [OUTPUTS, INPUTS])
@pytest.mark.parametrize("after", ["self.handles[-1].remove()", "pass"])
def test_the_line_that_registers_is_told(attach: str, after: str) -> None:
    lines, (text,), source = told(attach, after)
    assert lines == [line_of(source, "# here")]
    assert f"scale, which line {lines[0]} registered before that pass, is still there beside the new one" in text


@pytest.mark.parametrize("attach", [OUTPUTS, INPUTS])
def test_those_that_are_removed_are_none(attach: str) -> None:
    assert told(attach, "[one.remove() for one in self.handles]")[0] == []


def test_what_a_hook_keeps_is_put_down_to_what_keeps_it() -> None:
    lines, (text,), _ = told(KEPT_BY_HOOK, "pass")
    assert lines
    assert "is still there beside the new one" not in text
