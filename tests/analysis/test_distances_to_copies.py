"""Distances of weights to copies of them that are still on the graph: their gradients cancel."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector
torch.manual_seed(0)
net = torch.nn.Linear(3, 2)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
x = torch.rand(8, 3)
anchor = {copy}
for step in range(3):
    optimizer.zero_grad()
    loss = net(x).pow(2).mean()
    {term}
    loss.backward()
    {step}
"""
EACH = "loss = loss + sum(((p - a) ** 2).sum() for p, a in zip(net.parameters(), anchor))"
LIST = "[p.clone() for p in net.parameters()]"
VECTOR = "parameters_to_vector(net.parameters())"


def found(copy: str, term: str, step: str = "optimizer.step()") -> list[list[int]]:
    answers = build(recorded(PROGRAM.format(copy=copy, term=term, step=step))).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "distance-to-copy-on-graph"]


@pytest.mark.parametrize(
    ("copy", "term"),
    [
        (LIST, EACH),
        (LIST, EACH.replace("((p - a) ** 2).sum()", "F.mse_loss(p, a)")),
        (LIST, EACH.replace("((p - a) ** 2).sum()", "F.l1_loss(a, p)")),
        (LIST, EACH.replace("((p - a) ** 2).sum()", "torch.dist(p, a)")),
        ("net.weight.clone()", "loss = loss + (net.weight - anchor).norm()"),
        (VECTOR, f"loss = loss + ({VECTOR} - anchor).pow(2).sum()"),
        (
            "torch.cat([p.flatten() for p in net.parameters()])",
            "loss = loss + F.mse_loss(torch.cat([p.view(-1) for p in net.parameters()]), anchor)",
        ),
    ],
)
def test_the_line_of_the_copy_comes_first(copy: str, term: str) -> None:
    source = PROGRAM.format(copy=copy, term=term, step="optimizer.step()")
    assert found(copy, term) == [[line_of(source, "anchor = "), line_of(source, term)]]


@pytest.mark.parametrize(
    ("copy", "term"),
    [
        ("[p.detach().clone() for p in net.parameters()]", EACH),
        (f"{VECTOR}.detach()", f"loss = loss + ({VECTOR} - anchor).pow(2).sum()"),
        (LIST, EACH.replace("- a)", "- a.detach())")),
        (LIST, EACH.replace("(p - a) ** 2", "p * a")),
        (LIST, EACH.replace("p - a", "2 * p - a")),
        (LIST, EACH.replace("loss = loss + ", "shown = ")),
        ("[net.weight.clone(), net.bias.clone()]", "loss = loss + (net.weight[0] - anchor[0][1]).norm()"),
    ],
)
def test_what_is_off_the_graph_or_another_function_is_left_alone(copy: str, term: str) -> None:
    assert found(copy, term) == []


def test_weights_that_nothing_changed_since_are_no_distance() -> None:
    assert found(LIST, EACH, step="pass") == []


def test_the_first_step_of_an_inner_loop_starts_from_the_copy() -> None:
    inner = """
import torch
w = torch.nn.Parameter(torch.ones(3))
optimizer = torch.optim.SGD([w], lr=0.1)
for task in range(3):
    optimizer.zero_grad()
    fast = w.clone()
    for k in range(2):
        near = (fast * 2).sum() + (fast - w).pow(2).sum()
        (g,) = torch.autograd.grad(near, fast, create_graph=True)
        fast = fast - 0.1 * g
    fast.pow(2).sum().backward()
    optimizer.step()
"""
    assert "distance-to-copy-on-graph" not in [one.code for one in build(recorded(inner)).answers]
