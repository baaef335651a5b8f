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


LAYERS = """
import copy, functools
import torch
from torch import nn
def timed(function):
    def run(x):
        return function(x)
    return run
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.v = nn.Linear(4, 4), nn.Linear(4, 4)
        self.run = timed(self.attend)  # given
    def attend(self, x):
        return torch.softmax(self.q(x), -1) * self.v(x)
    def forward(self, x):
        return self.run(x)
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(4)
    def forward(self, x):
        return x + self.attention(self.norm(x))
class Encoder(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(3)])  # copied
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
model = Encoder(Layer())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    loss = model(torch.randn(5, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    "given",
    ["self.run = timed(self.attend)", "def run(x):\n            return self.attend(x)\n        self.run = run"],
    ids=["wrapped method", "local function"],
)
def test_a_part_of_each_copied_layer_that_goes_on_with_the_original_is_named(given: str) -> None:
    source = LAYERS.replace("self.run = timed(self.attend)", given)
    assert found(source) == [line_of(source, "# given"), line_of(source, "# copied")]


HOOKED = GAIN.replace(
    "self.act = torch.tanh  # kept",
    "self.act = nn.Tanh()\n        self.act.register_forward_hook(lambda m, i, o: o * self.gain)  # kept",
).replace("return self.act(x) * self.gain", "return self.act(x)")


def test_a_hook_that_reads_self_is_named() -> None:
    assert found(HOOKED) == [line_of(HOOKED, "# kept"), line_of(HOOKED, "# copied")]


@pytest.mark.parametrize(
    "source",
    [
        LAYERS.replace("timed(self.attend)", "functools.partial(self.attend)"),
        LAYERS.replace("copy.deepcopy(layer) for", "Layer() for"),
        LAYERS.replace("x = layer(x)", "x = layer.norm(x)"),
        HOOKED.replace("lambda m, i, o: o * self.gain", "self.scaled").replace(
            "    def forward(self, x):",
            "    def scaled(self, m, i, o):\n        return o * self.gain\n    def forward(self, x):",
            1,
        ),
    ],
    ids=["partial", "built anew", "not called", "hook is a method"],
)
def test_parts_that_compute_with_their_own_weights_are_fine(source: str) -> None:
    assert found(source) == []
