"""Clipping before there are gradients, by way of a callback, a method or a function: which lines are named."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
class Callback:
    def before_backward(self, loop): pass
    def after_backward(self, loop): pass
class Clip(Callback):
    def POINT(self, loop):  # the point
        nn.utils.clip_grad_norm_(loop.model.parameters(), 0.5)
def clip_all(model):
    nn.utils.clip_grad_norm_(model.parameters(), 0.5)  # in a function
class Loop:
    def __init__(self):
        self.model, self.callbacks = nn.Linear(3, 1), [Clip()]
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
    def fire(self, name):
        for callback in self.callbacks: getattr(callback, name)(self)
    def step(self):
        self.optimizer.zero_grad()
        loss = self.model(torch.ones(4, 3)).pow(2).mean()
        BEFORE
        loss.backward()
        AFTER
        self.optimizer.step()
loop = Loop()
for _ in range(3): loop.step()
"""


def said(point: str, before: str, after: str = "pass") -> tuple[list[Answer], str]:
    source = LOOP.replace("POINT", point).replace("BEFORE", before).replace("AFTER", after)
    return [one for one in build(recorded(source)).answers if one.code == "clipped-in-vain"], source


@pytest.mark.parametrize(
    "fires", ["self.fire('before_backward')", "for one in self.callbacks: one.before_backward(self)"]
)
def test_a_callback_is_named_with_its_point_and_where_it_is_called(fires: str) -> None:
    (answer,), source = said("before_backward", fires)
    point, called = line_of(source, "# the point"), line_of(source, fires)
    assert [cause.line for cause in answer.causes] == [point + 1, point, called]
    assert f"before_backward (line {point}), called at line {called}, comes before the backward pass" in answer.text


def test_of_a_function_the_call_is_named() -> None:
    (answer,), source = said("other", "clip_all(self.model)")
    assert [cause.line for cause in answer.causes] == [
        line_of(source, "# in a function"),
        line_of(source, "clip_all(self.model)"),
    ]


def test_where_all_is_in_one_function_the_line_says_it_all() -> None:
    clip = "nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)"
    (answer,), source = said("other", clip)
    assert [cause.line for cause in answer.causes] == [line_of(source, clip)]
    assert "it comes before the backward pass" in answer.text


@pytest.mark.parametrize(
    ("point", "before", "after"),
    [
        ("after_backward", "self.fire('before_backward')", "self.fire('after_backward')"),
        ("other", "pass", "clip_all(self.model)"),
    ],
)
def test_what_clips_behind_backward_is_right(point: str, before: str, after: str) -> None:
    assert not said(point, before, after)[0]


def test_clipping_after_the_step_is_called_so() -> None:
    source = """
import torch
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
"""
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "clipped-in-vain"]
    assert "found only gradients that a step had applied before (4 calls): it comes after that step" in answer.text
