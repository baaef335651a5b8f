"""requires_grad switched off on the tensor that a parameter is made of afterwards."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Filters(nn.Module):
    def __init__(self):
        super().__init__()
        kernel = torch.ones(3, 3)
        kernel[0] = 0
        {off}
        self.kernel = {wrap}  # here
        {after}
    def forward(self, x):
        return x @ self.kernel
net = nn.Sequential(Filters(), nn.Linear(3, 1))
net(torch.ones(2, 3)).sum().backward()
"""


def said(off: str, wrap: str, after: str = "pass") -> tuple[str, list[Answer]]:
    source = PROGRAM.format(off=off, wrap=wrap, after=after)
    return source, [one for one in build(recorded(source)).answers if one.code == "frozen-in-vain"]


@pytest.mark.parametrize("off", ["kernel.requires_grad = False", "kernel.requires_grad_(False)"])
@pytest.mark.parametrize("wrap", ["nn.Parameter(kernel)", "torch.nn.Parameter(data=kernel)"])
def test_the_line_that_makes_the_parameter_is_named(off: str, wrap: str) -> None:
    source, (answer,) = said(off, wrap)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here"), line_of(source, "kernel.requires")]


@pytest.mark.parametrize(
    ("off", "wrap", "after"),
    [
        ("pass", "nn.Parameter(kernel)", "pass"),
        ("kernel.requires_grad = False", "nn.Parameter(kernel, requires_grad=False)", "pass"),
        ("kernel.requires_grad = False", "nn.Parameter(kernel, False)", "pass"),
        ("kernel.requires_grad = False", "nn.Parameter(kernel, requires_grad=True)", "pass"),
        ("kernel.requires_grad = False", "nn.Parameter(kernel.clone())", "pass"),
        ("kernel.requires_grad = False", "nn.Parameter(kernel)", "self.kernel.requires_grad = False"),
    ],
)
def test_what_is_frozen_or_to_be_trained_is_not(off: str, wrap: str, after: str) -> None:
    assert said(off, wrap, after)[1] == []
