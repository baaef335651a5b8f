"""Loaded values that a first run overwrites: what lets it run is a plain attribute; and what is no such thing."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

CODEBOOK = """
import torch
class Codebook(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(4, 3)
        self.register_buffer("mean", torch.zeros(3))
        self.count = 0  # begins
    def start(self, x):
        self.embed.weight.data.copy_(x[:4])
        self.mean.copy_(x.mean(0))
        self.count += 1  # is set
    def forward(self, x):
        if self.training and self.count == 0:
            self.start(x)
        return x - self.embed.weight.sum(0) - self.mean
x = torch.arange(24.0).reshape(8, 3)
trained, restored = Codebook(), Codebook()
trained(x).sum().backward()
restored.load_state_dict(trained.state_dict())
restored(x + 1).sum().backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "loaded-then-initialized" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("self.embed.weight.data.copy_(x[:4])", "self.embed.weight.data = x[:4].clone()"),
        ("restored(x + 1)", "restored.eval()(x)\nrestored.train()(x + 1)"),
        ("        if self.training and self.count == 0:\n            self.start(x)", "        self.start(x)"),
    ],
)
def test_the_attribute_and_where_it_is_set_are_the_causes(old: str, new: str) -> None:
    source = CODEBOOK.replace(old, new)
    if "if self.training" not in source:
        source = source.replace(
            "(self, x):\n        self.embed",
            "(self, x):\n        if self.count:\n            return\n        self.embed",
        )
    assert lines(source) == [line_of(source, "# begins"), line_of(source, "# is set")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("restored(x + 1)", "trained(x + 1)"),
        ("restored.load_state_dict", "restored(x)\nrestored.load_state_dict"),
        ("restored(x + 1)", "restored.eval()(x + 1)"),
        (
            "    def start",
            "    def get_extra_state(self): return self.count\n"
            "    def set_extra_state(self, n): self.count = n\n"
            "    def start",
        ),
        ("self.count += 1", "self.count += 0 * self.mean.fill_(0.0).numel(); self.done = 1"),
        (" and self.count == 0", ""),
        ("restored.load_state_dict(trained.state_dict())", "trained.state_dict()"),
    ],
)
def test_what_was_not_loaded_or_is_let_run_by_something_else_is_none(old: str, new: str) -> None:
    assert old in CODEBOOK
    source = CODEBOOK.replace(old, new)
    if "self.done" in new:
        source = source.replace("self.count == 0", "not hasattr(self, 'done')")
    assert lines(source) == []


INITS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, state=None):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6))
        self.head = nn.Linear(6, 2)
        {inside}
    def start(self, layer):
        if isinstance(layer, nn.Linear):
            layer.weight.data.normal_(0, 0.02)
    def forward(self, x):
        return self.head(self.body(x))

def init_weights(layer):
    if isinstance(layer, nn.Linear):
        nn.init.kaiming_normal_(layer.weight)

x = torch.randn(8, 4)
state = Net().body.state_dict()
net = Net(state)
{outside}
net(x).sum().backward()
"""
BODY = "net.body.load_state_dict(state)\n"


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("", BODY + "net.apply(init_weights)  # here"),
        ("", BODY + "for layer in net.modules(): init_weights(layer)  # here"),
        ("", BODY + "net.body[2].reset_parameters(); net.body[0].reset_parameters()  # here"),
        ("if state:\n            self.body.load_state_dict(state)\n        self.apply(self.start)  # here", ""),
    ],
)
def test_an_initialisation_of_all_that_was_loaded_is_the_cause(inside: str, outside: str) -> None:
    source = INITS.format(inside=inside, outside=outside)
    assert lines(source) == [line_of(source, "# here")]


@pytest.mark.parametrize(
    ("inside", "outside"),
    [
        ("self.apply(self.start)", BODY),
        ("", BODY + "net.head.apply(init_weights)"),
        ("", "net.load_state_dict(net.state_dict())\nnn.init.zeros_(net.head.weight)"),
        ("", BODY + "net.body[2].apply(init_weights)"),
        ("", BODY + "before = net(x)\nnet.apply(init_weights)"),
        ("", BODY + "net.apply(init_weights)\n" + BODY),
        ("", BODY + "nn.init.zeros_(net.body[0].weight[:2]); nn.init.zeros_(net.body[2].weight[:2])"),
    ],
)
def test_what_is_loaded_last_used_before_or_kept_in_part_is_none(inside: str, outside: str) -> None:
    assert lines(INITS.format(inside=inside, outside=outside)) == []
