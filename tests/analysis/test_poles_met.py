"""Weights that become NaN in a pass that is not looked at, by a call whose derivative is infinite at what it kept."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
net = nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.01)
for step in range({steps}):
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    out = net(x)
    if step == {late}:
        y = out.detach()
    error = (out - y).pow(2)
    loss = {loss}  # loss
    opt.zero_grad()
    loss.backward()
    opt.step()
"""
ROOT = "error.mean(0).sqrt().sum()"


def said(loss: str, late: int, steps: int = 30) -> list[tuple[str, list[int]]]:
    source = PROGRAM.format(loss=loss, late=late, steps=steps)
    answers = [one for one in build(recorded(source)).answers if one.code == "gradient-not-finite"]
    line = line_of(source, "# loss")
    return [(one.text, [cause.line - line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize(
    "loss",
    [
        ROOT,
        "torch.sqrt(error).mean()",
        "(error.mean(0) ** 0.5).sum()",
        "torch.where(error > 0, error.log(), error).mean()",
        "torch.acos(1 - error.clamp(max=0.5)).sum()",
    ],
)
@pytest.mark.parametrize("late", [6, 21])
def test_the_call_in_the_pass_before_is_named(loss: str, late: int) -> None:
    ((text, lines),) = said(loss, late)
    assert lines == [0]
    assert f"as in backward pass {late + 1}: the loss of backward pass {late + 2} is NaN" in text


def test_it_is_named_however_late_it_comes() -> None:
    ((text, lines),) = said(ROOT, 307, 400)
    assert lines == [0]
    assert "as in backward pass 308" in text


@pytest.mark.parametrize(
    "loss",
    [
        "(out - y).std() + error.mean()",  # torch gives 0 there
        "error.mean() + (0 * error).relu().sqrt().sum()",  # masked, in each pass
        "error.mean() + (error.detach().sqrt() if step else 0.0 * error.sqrt().detach()).sum()",  # without a graph
        "torch.sqrt(error + 1e-8).mean()",
        "error.sqrt().detach().mean() + error.mean()",  # walked by no pass
    ],
)
def test_where_nothing_becomes_nan_nothing_is_said(loss: str) -> None:
    assert said(loss, 21) == []


def test_a_root_of_nothing_that_is_masked_is_not_blamed_for_what_something_else_did() -> None:
    loss = "error.mean() * (float('nan') if step == 21 else 1.0) + (0 * error).relu().sqrt().sum()"
    assert all("sqrt" not in text for text, _ in said(loss, 40))
