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


TURNED = """
import copy, functools, types
import torch
from torch import nn
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.v = nn.Linear(4, 4), nn.Linear(4, 4)
    def forward(self, x):
        return torch.softmax(self.q(x), -1) * self.v(x)
def turned(forward):
    def run(x):
        return forward(x.flip(0)).flip(0)
    return run
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.norm = Attention(), nn.LayerNorm(4)
        self.attention.forward = turned(self.attention.forward)  # given
    def forward(self, x):
        return x + self.attention(self.norm(x))
class Encoder(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layers = nn.ModuleList([copy.deepcopy(layer) for _ in range(3)])  # copied
        for p in self.parameters():
            if p.dim() > 1:
                nn.init.xavier_uniform_(p)
    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x
model = Encoder(Layer())
before = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    model(torch.randn(5, 4)).pow(2).mean().backward()
    optimizer.step()
"""
GIVEN = "self.attention.forward = turned(self.attention.forward)"


def warned(source: str) -> list[tuple[str, list[int]]]:
    answers = [one for one in build(recorded(source)).answers if one.severity != "note"]
    return [(one.code, [cause.line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize(
    "given",
    [
        GIVEN,
        'setattr(self.attention, "forward", turned(self.attention.forward))',
        "old = self.attention.forward\n        self.attention.forward = turned(old)",
        "old = self.attention.forward\n        self.attention.forward = lambda x: old(x.flip(0)).flip(0)",
    ],
    ids=["assigned", "setattr", "old one by name", "lambda"],
)
def test_a_forward_wrapped_before_the_copies_were_made_is_named_and_no_optimizer(given: str) -> None:
    source = TURNED.replace(GIVEN, given)
    assert warned(source) == [("copy-runs-original", [line_of(source, "# given"), line_of(source, "# copied")])]


@pytest.mark.parametrize(
    "given",
    [
        "self.attention.forward = self.attention.forward",
        "self.attention.forward = functools.partial(self.attention.forward)",
        "self.attention.run = self.attention.forward",
    ],
)
def test_methods_are_copied_with_their_object(given: str) -> None:
    assert warned(TURNED.replace(GIVEN, given)) == []


def test_layers_that_are_built_one_by_one_may_wrap_their_forward() -> None:
    assert warned(TURNED.replace("copy.deepcopy(layer)", "Layer()")) == []


def test_the_original_is_told_of_where_its_copies_have_no_such_function() -> None:
    source = TURNED.replace(GIVEN, "pass").replace(
        "(torch.randn(5, 4)).pow", "(layer(torch.randn(5, 4))).pow"
    ).replace("model = Encoder(Layer())", "layer = Layer()\nmodel = Encoder(layer)")  # fmt: skip
    assert [code for code, _ in warned(source)] == ["never-stepped"]
