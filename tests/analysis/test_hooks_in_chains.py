"""Forward hooks that pile up on a module without any backward pass in between."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """import torch
from torch import nn
net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), nn.Linear(4, 1))
x = torch.ones(2, 3)
net.eval()
"""
OBJECT = """
class Noise:
    def __init__(self, model, level):
        self.level, self.on = level, True
        self.handles = [module.register_forward_hook(self.hook) for module in model]  # registers
    def hook(self, module, args, output):
        if not self.on:
            return None
        return output + self.level * torch.randn_like(output)
    def remove(self):
        for handle in self.handles:
            handle.remove()
for run in range(4):
    noise = Noise(net, 0.1)  # used
    with torch.no_grad():
        net(x)
    pass  # after
"""
PRE = """
for level in (0.1, 0.2, 0.4):
    handle = net[0].register_forward_pre_hook(lambda module, args: (args[0] * level,))  # registers
    with torch.no_grad():
        print(net(x).sum())
    pass  # after
"""
HELPER = """
def quantized(value, bits):
    scale = 2**bits
    return (value * scale).round() / scale
def measure(bits):
    def hook(module, args, output):
        return quantized(output, bits)
    handle = net[0].register_forward_hook(hook)  # registers
    with torch.no_grad():
        print(net(x).sum())
    pass  # after
for bits in (8, 4, 2):
    measure(bits)  # used
"""
IN_PLACE = """
kept = torch.zeros(())
for level in (0.1, 0.2, 0.4):
    def hook(module, args, output):
        output.mul_(level)
    handle = net[1].register_forward_hook(hook)  # registers
    with torch.no_grad():
        print(net(x).sum())
    pass  # after
"""


def found(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(HEAD + source)).answers
    return [(one.text, [cause.line for cause in one.causes]) for one in answers if one.code == "hook-registered-again"]


@pytest.mark.parametrize(
    ("source", "called", "chained"), [(OBJECT, 1, 4), (PRE, 0, 3), (HELPER, 1, 3), (IN_PLACE, 0, 3)]
)
def test_the_line_that_registers_again_is_named(source: str, called: int, chained: int) -> None:
    ((text, lines),) = found(source)
    used = [line_of(HEAD + source, "# used")] if called else []
    assert lines == [*used, line_of(HEAD + source, "# registers")]
    assert f"{chained} of them ran in one call" in text


@pytest.mark.parametrize(
    "source",
    [
        OBJECT.replace("pass  # after", "noise.remove()"),
        OBJECT.replace("pass  # after", "noise.on = False"),
        OBJECT.replace("noise = Noise(net, 0.1)", "noise = noise if run else Noise(net, 0.1)"),
        OBJECT.replace("return output + ", "self.last = output + "),
        PRE.replace("pass  # after", "handle.remove()"),
        PRE.replace("net[0]", "[*net, net[1]][int(level * 5)]"),
        HELPER.replace("pass  # after", "handle.remove()"),
        HELPER.replace("return quantized(output, bits)", "quantized(output, bits)"),
        IN_PLACE.replace("pass  # after", "handle.remove()"),
        IN_PLACE.replace("output.mul_(level)", "kept.add_(output.sum())"),
    ],
)
def test_hooks_that_do_not_add_up_are_fine(source: str) -> None:
    assert found(source) == []


def test_several_that_are_registered_at_one_time_are_meant() -> None:
    source = """
for level in (0.1, 0.2, 0.4):
    net[0].register_forward_hook(lambda module, args, output: output * level)
for run in range(4):
    with torch.no_grad():
        net(x)
"""
    assert found(source) == []
