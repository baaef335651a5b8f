"""Steps inside an autocast region, and what goes on with the copies of before."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

HEAD = """
import torch
layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
optimizer = torch.optim.Adam(layers.parameters())
x, cast = torch.ones(2, 3), torch.autocast("cpu", dtype=torch.bfloat16)
def update():
    optimizer.zero_grad()
    layers(x).float().sum().backward()
    optimizer.step()
"""


def stale(body: str) -> list[Answer]:
    return [one for one in build(recorded(HEAD + body)).answers if one.code == "stale-casts"]


def test_the_with_around_the_steps_and_the_step_are_named() -> None:
    body = """
def run():
    with torch.amp.autocast("cpu", dtype=torch.bfloat16):
        for _ in range(3):
            loss = layers(x).float().sum()
            optimizer.zero_grad(); loss.backward()
            optimizer.step()
run()
"""
    (answer,) = stale(body)
    assert [cause.line for cause in answer.causes] == [11, 15]
    assert "changes layers.* (4) inside the autocast of line 11, and F.linear (line 13)" in answer.text


def test_a_step_in_a_function_that_is_called_inside_is_named_itself() -> None:
    (answer,) = stale("with cast:\n    update()\n    update()")
    assert [cause.line for cause in answer.causes] == [8]


@pytest.mark.parametrize(
    "body",
    [
        "for _ in range(3):\n    with cast: update()",
        "with cast:\n    update()\n    torch.clear_autocast_cache()\n    update()",
        "with cast:\n    both = layers(x).sum() + layers(-x).sum()\n    both.backward()\n    optimizer.step()",
        "with cast:\n    update()\n    with torch.no_grad(): layers(x)",
        "for _ in range(3):\n    with cast: loss = layers(x).sum()\n    loss.backward()\n    optimizer.step()",
        "half = layers[0].weight.bfloat16()\nwith cast:\n    (x @ half.T).sum().backward(retain_graph=True)\n"
        "    optimizer.step()\n    (x @ half.T).sum()",
    ],
)
def test_copies_that_are_made_anew_are_none(body: str) -> None:
    assert stale(body) == []
