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
