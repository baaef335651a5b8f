"""The input of a checkpointed function that is written in place when the function has run."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """
import torch
from torch.utils.checkpoint import checkpoint
first, block = torch.nn.Linear(3, 4), torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
h = first(torch.randn(2, 3))
y = checkpoint(block, h, use_reentrant=False)  # keeps
{}  # writes
h.sum().backward()
"""


def lines(write: str) -> list[int]:
    answers = build(recorded(SOURCE.format(write))).answers
    return [cause.line for one in answers if one.code == "inplace-error" for cause in one.causes]


@pytest.mark.parametrize("write", ["h.mul_(0.5).add_(y)", "h += y"])
def test_the_write_and_the_checkpoint_are_named(write: str) -> None:
    assert lines(write) == [line_of(SOURCE, "# writes"), line_of(SOURCE, "# keeps")]


def test_a_new_tensor_is_fine() -> None:
    assert lines("h = h * 0.5 + y") == []
