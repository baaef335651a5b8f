"""Hooks on a copy that nothing is computed from, while another copy gets the gradient; and hooks on what is used."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LAYER = """import torch
from torch import nn
class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.raw, self.seen = torch.ones(3, 3).half(), nn.Parameter(torch.ones(3, 3)), []
    def dense(self):
        return self.table.float().requires_grad_()
    def keep(self, grad):
        self.seen.append(grad.norm())
    def forward(self, x):
        ON.register_hook(self.keep)  # hook
        return x @ USED + self.raw.sum()
layer = Layer()
for step in range(3):
    layer(torch.ones(2, 3)).sum().backward()
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "hook-never-ran" for cause in one.causes]


@pytest.mark.parametrize(
    ("on", "used", "how"),
    [
        ("self.dense()", "self.dense()", "register_hook"),
        ("self.dense()", "self.dense()", "register_post_accumulate_grad_hook"),
        ("self.raw.detach().requires_grad_()", "self.raw", "register_hook"),
        ("self.raw.clone()", "self.raw", "register_hook"),
    ],
)
def test_the_line_that_registers(on: str, used: str, how: str) -> None:
    source = LAYER.replace("ON", on).replace("USED", used).replace("register_hook", how)
    assert lines(source) == [line_of(source, "# hook")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ON.register_hook(self.keep)", "w = self.dense()\n        w.register_hook(self.keep)"),
        (
            "        ON.register_hook(self.keep)",
            "        w = self.dense()\n        if step: w.register_hook(self.keep)",
        ),
        ("ON", "self.raw"),
    ],
)
def test_what_is_used_further_on_is_none(old: str, new: str) -> None:
    assert lines(LAYER.replace(old, new).replace("USED", "w" if "w =" in new else "self.dense()")) == []


def test_a_copy_of_what_gets_no_gradient_either_is_none() -> None:
    assert lines(LAYER.replace("ON", "self.dense()").replace("USED", "self.raw")) == []
