"""Hooks that make a gradient smaller with each pass of an accumulation."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
torch.manual_seed(0)
class Trainer:
    def __init__(self, passes):
        self.passes, self.count = passes, 0
        self.net = torch.nn.Linear(4, 1)
        for parameter in self.net.parameters():
            parameter.register_post_accumulate_grad_hook(self.average)  # registers
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
    def average(self, parameter):
        parameter.grad.div_(self.passes)  # scales
    def fit(self):
        for step in range(16):
            self.net(torch.randn(16, 4) + 3).square().mean().backward()
            self.count = step + 2
            if step % self.passes == self.passes - 1:
                self.optimizer.step()
                self.optimizer.zero_grad()
Trainer(4).fit()
"""


def told(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "clipped-while-accumulating" for cause in one.causes]


@pytest.mark.parametrize(
    "scales",
    [
        "parameter.grad.div_(self.passes)",
        "parameter.grad /= self.passes",
        "torch.nn.utils.clip_grad_norm_(parameter, 0.01)",
        "parameter.grad = parameter.grad * 0.25",
    ],
)
def test_the_line_that_scales_is_told_and_the_one_that_registers_it(scales: str) -> None:
    source = SOURCE.replace("parameter.grad.div_(self.passes)", scales)
    assert told(source) == [line_of(source, "# scales"), line_of(source, "# registers")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # one pass for each step; only in the last pass before it; nothing is made smaller
        ("step % self.passes == self.passes - 1", "True"),
        ("parameter.grad.div_(self.passes)", "if self.count % self.passes == 0: parameter.grad.div_(self.passes)"),
        ("parameter.grad.div_(self.passes)", "torch.nn.utils.clip_grad_norm_(parameter, 1e6)"),
        # a hook of the tensor is given what one pass gives
        (
            "parameter.register_post_accumulate_grad_hook(self.average)",
            "parameter.register_hook(lambda gradient: gradient / self.passes)",
        ),
    ],
)
def test_what_is_scaled_once_is_none(old: str, new: str) -> None:
    assert old in SOURCE
    assert told(SOURCE.replace(old, new)) == []
