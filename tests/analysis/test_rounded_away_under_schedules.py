"""Steps that half precision rounds away while a scheduler sets the rate: only what it is raised to counts."""

from __future__ import annotations

import re

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.optim import lr_scheduler
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 3))
net.to(torch.bfloat16)  # here
optimizer = torch.optim.{made}
{plan}
for step in range({steps}):
    optimizer.zero_grad()
    nn.functional.cross_entropy(net(torch.randn(8, 8).bfloat16()).float(), torch.randint(3, (8,))).backward()
    optimizer.step()
    plan.step()
"""
ADAM = "AdamW(net.parameters(), lr=2e-5)"
WARM = "plan = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=5)"


def found(plan: str = WARM, made: str = ADAM, steps: int = 20) -> list[Answer]:
    answers = build(recorded(PROGRAM.format(plan=plan, made=made, steps=steps))).answers
    return [one for one in answers if one.code == "update-rounded-away"]


@pytest.mark.parametrize(
    ("plan", "made"),
    [
        (WARM, ADAM),
        ("plan = lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 5))", ADAM),
        ("plan = lr_scheduler.OneCycleLR(optimizer, 2e-5, total_steps=30)", ADAM),
        (WARM, "AdamW(net.parameters(), lr=2e-5, betas=(0.9, 0.95))"),
        (WARM, "AdamW(net.parameters(), lr=2e-4)"),
    ],
    ids=["linear", "lambda", "cycle", "betas", "the norm alone"],
)
def test_what_is_lost_at_the_full_rate_is_told(plan: str, made: str) -> None:
    (one,) = found(plan, made)
    assert one.causes[0].line == line_of(PROGRAM, "# here")
    assert re.search("lr=(2e-05|1.9[0-9]*e-05|0.0002) at most", one.text)


@pytest.mark.parametrize(
    ("plan", "made", "steps"),
    [
        (WARM.replace("iters=5", "iters=200"), ADAM, 20),  # it is warming up all the time
        (WARM, ADAM, 7),  # seen once at the full rate
        ("plan = lr_scheduler.OneCycleLR(optimizer, 3e-2, total_steps=30)", ADAM, 20),
        (WARM, "AdamW(net.parameters(), lr=2e-2)", 20),
        (WARM, "AdamW([p.detach().float().requires_grad_() for p in net.parameters()], lr=2e-5)", 20),
    ],
    ids=["warm-up", "once", "raised", "large", "in float32"],
)
def test_what_moves_or_is_only_warming_up_is_fine(plan: str, made: str, steps: int) -> None:
    assert found(plan, made, steps) == []
