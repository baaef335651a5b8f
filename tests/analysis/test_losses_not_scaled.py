"""A loss that no scaler has scaled, of a network whose optimizer a scaler steps."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

TWO = """
import torch
from torch import nn
def run(loss):
    loss.backward()  # inside
gen, disc = nn.Linear(4, 1), nn.Linear(4, 1)
of_gen, of_disc = torch.optim.SGD(gen.parameters(), lr=0.1), torch.optim.Adam(disc.parameters())
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
x = torch.ones(2, 4)
for step in range(3):
    of_gen.zero_grad()
    of_disc.zero_grad()
    scaler.scale(gen(x).sum()).backward()
    loss = disc(x).pow(2).sum()
    loss.backward()  # not scaled
    scaler.step(of_gen)
    scaler.step(of_disc)
    scaler.update()
"""
PASS = "loss.backward()  # not scaled"


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "loss-not-scaled"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (PASS, "# not scaled"),
        ("run(loss)  # not scaled", "# inside"),
        (PASS + "\n    nn.utils.clip_grad_norm_(disc.parameters(), 1.0)", "# not scaled"),
        (PASS + "\n    scaler.unscale_(of_disc)", "# not scaled"),
        ("(loss / 2).backward()  # not scaled", "# not scaled"),
    ],
    ids=["in the loop", "in a function", "clipped", "unscaled first", "a part"],
)
def test_the_line_that_calls_backward_is_the_cause(body: str, line: str) -> None:
    source = TWO.replace(PASS, body)
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, line)]
    assert answer.text.startswith(f"Line {line_of(source, line)}: backward runs from a loss that was not scaled")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (PASS, "scaler.scale(loss).backward()"),
        (PASS, "run(scaler.scale(loss))"),
        (PASS, "(loss * scaler.get_scale()).backward()"),
        (PASS, PASS + "\n    for p in disc.parameters(): p.grad.mul_(1024)"),
        ("scaler.step(of_disc)", "of_disc.step()"),
        ('"cpu", init', '"cpu", enabled=False, init'),
    ],
    ids=["scaled", "scaled before", "by hand", "by hand afterwards", "its own step", "switched off"],
)
def test_what_is_scaled_or_steps_by_itself(old: str, new: str) -> None:
    assert old in TWO
    assert not found(TWO.replace(old, new))
