"""Clipping gradients of a scaled loss: said where nothing had divided them, and silent where something had."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
layer, other = nn.Linear(4, 1), nn.Linear(4, 1)
optimizer, second = (torch.optim.{}(one.parameters(), lr=0.1) for one in (layer, other))
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
x = torch.ones(2, 4)
for step in range(4):
    optimizer.zero_grad(), second.zero_grad()
    loss = layer(x).sum() + other(x).sum()
    {}
    scaler.step(optimizer)
    scaler.update()
"""
SCALED = "scaler.scale(loss).backward()"
CLIP = "clip_grad_norm_(layer.parameters(), 1.0)"


def causes(optimizer: str, body: str) -> tuple[list[int], str]:
    source = PROGRAM.format(optimizer, body.replace("\n", "\n    "))
    answers = [one for one in build(recorded(source)).answers if one.code == "scaled-gradients-clipped"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize(
    "clip",
    [
        CLIP,
        "clip_grad_value_(layer.parameters(), 1.0)",
        "for p in layer.parameters(): p.grad.clamp_(-1, 1)",
        f"scaler.unscale_(optimizer=second)\n{CLIP}",
    ],
)
def test_a_clip_before_the_gradients_are_divided(optimizer: str, clip: str) -> None:
    found, source = causes(optimizer, f"{SCALED}\n{clip}")
    assert found == [line_of(source, clip.split("\n")[-1])]


@pytest.mark.parametrize(
    "body",
    [
        f"{SCALED}\nscaler.unscale_(optimizer)\n{CLIP}",
        f"{SCALED}\nscaler.unscale_(optimizer); scaler.unscale_(second)\n{CLIP}\nscaler.step(second)",
        f"{SCALED}\nfor p in layer.parameters(): p.grad.div_(scaler.get_scale())\n{CLIP}",
        f"{SCALED}\nfor p in layer.parameters(): p.grad = p.grad / scaler.get_scale()\n{CLIP}",
        f"{SCALED}\nnorm = clip_grad_norm_(layer.parameters(), float('inf'))",
        f"{SCALED}\nfor p in layer.parameters(): p.data.clamp_(-1, 1)",
        f"scaler = torch.amp.GradScaler('cpu', enabled=False)\n{SCALED}\n{CLIP}",
        f"scaler.scale(loss)\nloss.backward()\n{CLIP}",
        f"{SCALED}\nclip_grad_norm_(other.parameters(), 1.0)\nsecond.zero_grad()",
    ],
)
def test_clips_of_gradients_that_are_not_scaled_or_not_stepped_by_the_scaler(body: str) -> None:
    assert causes("SGD", body)[0] == []


BOTH = "clip_grad_norm_([*layer.parameters(), *other.parameters()], 1.0)"
BOTH_VALUES = "clip_grad_value_([*layer.parameters(), *other.parameters()], 1.0)"


@pytest.mark.parametrize("clip", [BOTH, BOTH_VALUES])
@pytest.mark.parametrize(
    ("unscaled", "is_found"),
    [
        ("scaler.unscale_(optimizer)", True),
        ("scaler.unscale_(second)", True),
        ("scaler.unscale_(optimizer); scaler.unscale_(second)", False),
        ("for p in other.parameters(): p.grad.div_(scaler.get_scale())\nscaler.unscale_(optimizer)", False),
    ],
)
def test_a_clip_of_the_gradients_of_two_optimizers(unscaled: str, clip: str, is_found: bool) -> None:
    body = f"{SCALED}\n{unscaled}\n{clip}\nscaler.step(second)"
    found, source = causes("SGD", body)
    assert found == [line_of(source, clip)] * is_found


def test_gradients_that_no_step_takes_after_the_clip_are_none() -> None:
    body = f"{SCALED}\nscaler.unscale_(optimizer)\n{BOTH}\nsecond.zero_grad()"
    assert causes("SGD", body)[0] == []


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("second.step()  # here", True),
        ("scaler.unscale_(optimizer)\nsecond.step()  # here", True),
        ("scaler.unscale_(second)\nsecond.step()", False),
        ("scaler.step(second)", False),
        ("for p in other.parameters(): p.grad /= scaler.get_scale()\nsecond.step()", False),
        ("second.zero_grad()\nother(x).sum().backward()\nsecond.step()", False),
    ],
)
def test_a_step_of_one_of_two_optimizers_that_the_scaler_does_not_make(body: str, told: bool) -> None:
    source = PROGRAM.format("SGD", f"{SCALED}\n{body}".replace("\n", "\n    "))
    answers = [one for one in build(recorded(source)).answers if one.code == "scaled-gradients-applied"]
    expected = [line_of(source, "# here")] if told else []
    assert [cause.line for answer in answers for cause in answer.causes] == expected
