"""Clipping what accumulates: which line is named, and what limits nothing or is clipped once is silent."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import math, torch
from torch import nn
torch.manual_seed(0)
class Args: max_grad_norm = LIMIT
def clip(model):
    CLIP
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(12):
    loss = (model(torch.randn(4, 3)) - 5).pow(2).mean()
    loss.backward()
    EACH
    if step % 4 == 3:
        LAST
        optimizer.step()
        optimizer.zero_grad()
"""
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), Args.max_grad_norm)"


def said(limit: str = "0.1", clip: str = CLIP, each: str = "clip(model)", last: str = "pass") -> list[Answer]:
    source = LOOP.replace("LIMIT", limit).replace("CLIP", clip).replace("EACH", each).replace("LAST", last)
    answers = [one for one in build(recorded(source)).answers if one.code == "clipped-while-accumulating"]
    assert not answers or answers[0].causes[0].line in {line_of(source, clip), line_of(source, each)}
    return answers


@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        "nn.utils.clip_grad_value_(model.parameters(), clip_value=0.1)",
        "for p in model.parameters(): p.grad.clamp_(-0.1, 0.1)",
    ],
)
def test_a_helper_is_named_with_the_line_that_calls_it(clip: str) -> None:
    (answer,) = said(clip=clip)
    assert [cause.line for cause in answer.causes] == [6, 12]
    assert "(clip, called at line 12)" in answer.text
    assert "(9 times)" in answer.text


def test_a_call_in_the_loop_is_named_alone() -> None:
    (answer,) = said(each=CLIP.replace("Args.max_grad_norm", "0.1"), clip="pass")
    assert [cause.line for cause in answer.causes] == [12]


@pytest.mark.parametrize("limit", ["float('inf')", "math.inf", "1e9", "500.0"])
def test_what_limits_nothing_is_a_measure(limit: str) -> None:
    assert not said(limit)


def test_once_before_the_step_is_right() -> None:
    assert not said(each="pass", last="clip(model)")


def test_gradients_that_are_added_up_elsewhere_are_each_clipped_by_itself() -> None:
    assert not said(each="clip(model); [p.grad.zero_() for p in model.parameters()]")
