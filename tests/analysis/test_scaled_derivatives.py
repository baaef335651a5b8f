"""Gradients of a scaled loss that autograd.grad gave: used with the scale in them, and where that does no harm."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
for step in range(3):
    x = torch.rand(8, 4, requires_grad=True)
    loss, penalty = net(x).pow(2).mean(), 0.0
    optimizer.zero_grad()
    grads = torch.autograd.grad({asked}, [x, *net.parameters()], create_graph=True)  # asks
    {body}
    scaler.scale(loss + penalty).backward()
    scaler.step(optimizer)
    scaler.update()
"""
SCALED = "scaler.scale(loss)"


def causes(body: str, asked: str = SCALED) -> tuple[list[int], str]:
    source = PROGRAM.format(asked=asked, body=body.replace("\n", "\n    "))
    answers = [one for one in build(recorded(source)).answers if one.code == "scaled-gradients-applied"]
    return [cause.line for answer in answers for cause in answer.causes], source


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("fast = [p - 0.1 * g for p, g in zip(net.parameters(), grads[1:])]  # here", SCALED),
        ("adversarial = x + 0.1 * grads[0]  # here", SCALED),
        ("fast = [p - 0.1 * g for p, g in zip(net.parameters(), grads[1:])]  # here", f"{SCALED}.sum()"),
        ("with torch.no_grad():\n    net[0].weight -= 0.1 * grads[1]  # here", SCALED),
        ("with torch.no_grad():\n    net[0].weight.data.sub_(grads[1], alpha=0.1)  # here", SCALED),
        ("penalty = (grads[0].norm(2, dim=1) - 1).pow(2).mean()  # here", SCALED),
        ("penalty = sum(g.pow(2).sum() for g in grads)  # here", SCALED),
    ],
)
def test_steps_and_penalties_that_carry_the_scale(body: str, asked: str) -> None:
    lines, source = causes(body, asked)
    assert lines == [line_of(source, "# here"), line_of(source, "# asks")]


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ("fast = [p - 0.1 * g / scaler.get_scale() for p, g in zip(net.parameters(), grads[1:])]", SCALED),
        ("inverse = 1.0 / scaler.get_scale()\npenalty = (grads[0] * inverse).norm()", SCALED),
        ("grad_scale = 1024.0\npenalty = (grads[0] / grad_scale).norm()", SCALED),
        ("fast = [p - 0.1 * g for p, g in zip(net.parameters(), grads[1:])]", "loss"),
        ("penalty = (grads[0].norm(2, dim=1) - 1).pow(2).mean()", "loss"),
        ("adversarial = x + 0.1 * grads[0].sign()", SCALED),
        ("adversarial = x + grads[0] / grads[0].abs().max()", SCALED),
        ("print(grads[0].norm())", SCALED),
        ("for p, g in zip(net.parameters(), grads[1:]): p.grad = g.detach()", SCALED),
    ],
)
def test_gradients_that_are_divided_or_whose_size_does_not_matter(body: str, asked: str) -> None:
    lines, _ = causes(body, asked)
    assert lines == []
