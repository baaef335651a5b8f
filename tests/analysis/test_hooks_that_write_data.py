"""Hooks that write a gradient through ``data``, which no version counter shows, where another tensor gets it too."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

PROGRAM = """
import torch

def damp(grad):
    {write}

w = torch.ones(3, requires_grad=True)
skip = w * 2
branch = skip.exp()
{hooked}.register_hook(damp)
(skip + branch).pow(2).sum().backward()
"""


def lines(write: str, hooked: str = "branch") -> list[int]:
    answers = build(recorded(PROGRAM.format(write=write, hooked=hooked))).answers
    return [cause.line for one in answers if one.code == "hook-writes-shared-gradient" for cause in one.causes]


@pytest.mark.parametrize("write", ["grad.data.mul_(0.1)", "grad.data *= 0.1", "grad.data[0] = 0", "grad.mul_(0.1)"])
def test_the_write_is_named(write: str) -> None:
    assert lines(write) == [4]


@pytest.mark.parametrize(
    ("write", "hooked"),
    [
        ("return grad.data * 0.1", "branch"),
        ("print(grad.data)", "branch"),
        ("if grad.numel() < 0: grad.data.mul_(0.1)", "branch"),  # (it never ran)
        ("grad.data.mul_(0.1)", "skip"),  # (the other one has had its gradient)
    ],
)
def test_what_writes_nothing_that_another_gets_is_not_reported(write: str, hooked: str) -> None:
    assert lines(write, hooked) == []
