"""Gradients on one flat buffer: told where they are set to None and the buffer goes on to be used alone."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 1))
params = list(model.parameters())
flat = torch.zeros(sum(p.numel() for p in params))
def views():
    begin = 0
    for p in params:
        yield p, flat[begin : begin + p.numel()].view_as(p)
        begin += p.numel()
def attach():
    for p, view in views(): p.grad = view
attach()
optimizer = torch.optim.SGD(params, 0.1)
for step in range(4):
    CLEAR
    model(torch.randn(8, 4)).pow(2).mean().backward()
    AFTER
    optimizer.step()
"""
CLIP = "flat.mul_((0.1 / (flat.norm() + 1e-6)).clamp(max=1.0))"


def said(clear: str, after: str = CLIP) -> list[Answer]:
    source = LOOP.replace("CLEAR", clear).replace("AFTER", after)
    return [one for one in build(recorded(source)).answers if one.code == "gradient-views-lost"]


@pytest.mark.parametrize(
    "clear", ["optimizer.zero_grad()", "model.zero_grad(set_to_none=True)", "for p in params: p.grad = None"]
)
def test_what_sets_them_to_none_is_named(clear: str) -> None:
    (answer,) = said(clear)
    assert [cause.line for cause in answer.causes] == [line_of(LOOP, "CLEAR")]
    assert "which were views of flat" in answer.text


@pytest.mark.parametrize(
    ("clear", "after"),
    [
        ("optimizer.zero_grad(set_to_none=False)", CLIP),
        ("flat.zero_()", CLIP),
        ("optimizer.zero_grad(); flat.zero_(); attach()", CLIP),
        ("optimizer.zero_grad()", f"[view.copy_(p.grad) for p, view in views()]; {CLIP}"),
        ("optimizer.zero_grad()", f"flat.copy_(torch.cat([p.grad.flatten() for p in params])); {CLIP}"),
        ("optimizer.zero_grad()", "pass"),
    ],
)
def test_a_buffer_that_has_the_gradients_or_is_used_no_more_is_fine(clear: str, after: str) -> None:
    assert not said(clear, after)


def warnings(clear: str, after: str) -> list[str]:
    answers = build(recorded(LOOP.replace("CLEAR", clear).replace("AFTER", after))).answers
    return [one.code for one in answers if one.severity != "note"]


@pytest.mark.parametrize("clear", ["optimizer.zero_grad(set_to_none=False)", "flat.zero_()"])
def test_what_clears_the_buffer_clears_all_gradients_on_it(clear: str) -> None:
    assert warnings(clear, CLIP) == []


def test_of_a_buffer_that_nothing_clears_each_gradient_is_applied_again() -> None:
    assert warnings("pass", "pass") == ["gradients-applied-again"]
