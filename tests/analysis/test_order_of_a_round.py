"""Clearing, clipping and stepping in an order in which a step does not see what backward computed."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import torch
net = torch.nn.Linear(2, 1)
frozen = torch.nn.Linear(2, 2)
optimizer = torch.optim.SGD([*net.parameters(), *frozen.parameters()], lr=0.1)
clip = lambda: torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
x = torch.ones(3, 2)
for step in range(4):
"""
CODES = {"cleared-before-step", "clipped-in-vain", "never-stepped"}


def said(lines: str) -> list[tuple[str, list[int]]]:
    body = "".join(f"    {line.strip()}\n" for line in lines.split(";"))
    answers = build(recorded(HEAD + body)).answers
    return [(one.code, [cause.line for cause in one.causes]) for one in answers if one.code in CODES]


LOSS = "loss = net(frozen(x)).sum()"


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        pytest.param(
            f"{LOSS}; loss.backward(); optimizer.zero_grad(set_to_none=False); optimizer.step()",
            "cleared-before-step",
            10,
            id="zeros between",
        ),
        pytest.param(
            "loss = net(x).sum(); optimizer.zero_grad(set_to_none=False); optimizer.step(); loss.backward()",
            "cleared-before-step",
            10,
            id="a step before backward, on zeros",
        ),
        pytest.param(
            f"{LOSS}; optimizer.zero_grad(); optimizer.step(); loss.backward()",
            "never-stepped",
            10,
            id="a step before backward, on none",
        ),
        pytest.param(
            f"{LOSS}; optimizer.zero_grad(); clip(); loss.backward(); optimizer.step()",
            "clipped-in-vain",
            5,
            id="a clip before backward",
        ),
        pytest.param(
            f"{LOSS}; clip(); optimizer.zero_grad(); loss.backward(); optimizer.step()",
            "clipped-in-vain",
            5,
            id="a clip of the gradients of the round before",
        ),
    ],
)
def test_the_line_in_the_wrong_place_is_the_cause(lines: str, code: str, line: int) -> None:
    assert said(lines) == [(code, [line])]


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(f"optimizer.zero_grad(); {LOSS}; loss.backward(); clip(); optimizer.step()", id="the right order"),
        pytest.param(
            f"{LOSS}; loss.backward(); clip(); optimizer.step(); optimizer.zero_grad(set_to_none=False)",
            id="cleared after the step",
        ),
        pytest.param(
            f"{LOSS}; loss.backward(); [p.grad.zero_() for p in frozen.parameters()]; optimizer.step();"
            "optimizer.zero_grad()",
            id="a part that is held still",
        ),
        pytest.param(
            f"{LOSS}; loss.backward(); clip(); kept = [p.grad.clone() for p in net.parameters()];"
            "optimizer.zero_grad(); loss = net(frozen(x)).mean(); loss.backward(); optimizer.step();"
            "optimizer.zero_grad()",
            id="clipped gradients that the program takes itself",
        ),
        pytest.param(
            f"{LOSS}; optimizer.zero_grad() if step % 2 == 0 else None; loss.backward(); clip();"
            "optimizer.step() if step % 2 else None",
            id="two passes for a step",
        ),
        pytest.param(
            f"{LOSS}; loss.backward(); optimizer.step(); "
            "torch.nn.utils.clip_grad_norm_(net.parameters(), float('inf')); optimizer.zero_grad()",
            id="a norm that is measured only",
        ),
    ],
)
def test_other_orders_are_right(lines: str) -> None:
    assert said(lines) == []
