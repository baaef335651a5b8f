"""Clipping a model's gradients after they were copied to the parameters that an optimizer steps."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 2).to(DTYPE)
params = list(model.parameters())
master = [p.detach().clone().float().requires_grad_() for p in params]
for m in master: m.grad = torch.zeros_like(m)
flat = torch.cat([m.detach().flatten() for m in master]).requires_grad_()
optimizer = torch.optim.SGD(STEPPED, 0.1)
def clip(): nn.utils.clip_grad_norm_(params, 0.1)  # the model's
for step in range(4):
    for p in params: p.grad = None
    model(torch.randn(8, 4).to(DTYPE)).float().pow(2).mean().backward()
    EARLY
    COPY
    LATE
    optimizer.step()
    with torch.no_grad():
        for m, p in zip(master, params): p.copy_(m)
"""
ANEW = "for m, p in zip(master, params): m.grad = p.grad.detach().float()"
INTO = "for m, p in zip(master, params): m.grad.copy_(p.grad)"
FLAT = "flat.grad = torch.cat([p.grad.flatten() for p in params]).float()"


def said(copy: str, late: str = "clip()", early: str = "pass", dtype: str = "torch.bfloat16") -> list[Answer]:
    source = LOOP.replace("COPY", copy).replace("LATE", late).replace("EARLY", early).replace("DTYPE", dtype)
    source = source.replace("STEPPED", "[flat]" if copy == FLAT else "master")
    return [one for one in build(recorded(source)).answers if one.code == "clipped-in-vain"]


@pytest.mark.parametrize("copy", [ANEW, INTO, FLAT])
def test_the_clipping_of_what_was_copied_is_named(copy: str) -> None:
    (answer,) = said(copy)
    assert [cause.line for cause in answer.causes] == [line_of(LOOP, "# the model's")]
    assert f"SGD.step applies the copies, made at line {line_of(LOOP, 'COPY')}" in answer.text


@pytest.mark.parametrize(
    ("copy", "late", "early", "dtype"),
    [
        (ANEW, "pass", "clip()", "torch.bfloat16"),
        (ANEW, "nn.utils.clip_grad_norm_(master, 0.1)", "pass", "torch.bfloat16"),
        (ANEW, "clip()", "pass", "torch.float32"),
        (INTO, "clip()\n    for m, p in zip(master, params): m.grad.copy_(p.grad)", "pass", "torch.bfloat16"),
        (INTO, "clip()\n    for m in master: m.grad.mul_(0.5)", "pass", "torch.bfloat16"),
    ],
)
def test_what_is_clipped_before_or_on_the_same_memory_is_fine(copy: str, late: str, early: str, dtype: str) -> None:
    assert not said(copy, late, early, dtype)
