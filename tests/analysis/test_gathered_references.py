"""Gradients of one network that are gathered as they are, while another's loss adds to them before they are applied."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
actor, critic = nn.Linear(3, 2), nn.Linear(5, 1)
groups = {"critic": list(critic.parameters()), "actor": list(actor.parameters())}
optimizers = {name: torch.optim.Adam(ps, lr=1e-2) for name, ps in groups.items()}
for step in range(6):
    x, a = torch.rand(8, 3), torch.rand(8, 2)
    losses = {
        "critic": (critic(torch.cat([x, a], 1)) - x.sum(1, keepdim=True)).pow(2).mean(),
        "actor": -critic(torch.cat([x, actor(x)], 1)).mean(),
    }
    gathered = {}
    for name, loss in losses.items():
        optimizers[name].zero_grad()
        loss.backward()
        gathered[name] = [p.grad for p in groups[name]]  # gathers
    for name, grads in gathered.items():
        for p, grad in zip(groups[name], grads):
            p.grad = grad
        optimizers[name].step()
"""
GATHERS = "gathered[name] = [p.grad for p in groups[name]]  # gathers"


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = build(recorded(source)).answers
    return [(one.text, [c.line for c in one.causes]) for one in answers if one.code == "loss-reaches-other-network"]


@pytest.mark.parametrize(
    "gathers",
    [
        GATHERS,
        "gathered[name] = []\n        for p in groups[name]:\n            gathered[name].append(p.grad)  # gathers",
    ],
)
def test_the_line_that_gathers_is_named_first(gathers: str) -> None:
    source = PROGRAM.replace(GATHERS, gathers)
    ((text, lines),) = told(source)
    assert lines[0] == line_of(source, "# gathers")
    assert f"what line {lines[0]} gathers of that is .grad itself, without a copy" in text


def test_copies_are_fine() -> None:
    assert told(PROGRAM.replace("[p.grad for p", "[p.grad.clone() for p")) == []


def test_what_is_not_put_back_is_not_said_to_be_gathered() -> None:
    source = PROGRAM.replace("            p.grad = grad\n", "            pass\n")
    assert all("gathers" not in text for text, _ in told(source))
