"""Steps of meta-learning that begin at weights that are cut off from the parameters."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """
import torch
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
x, weights = torch.randn(8, 4), list(net.parameters())
for task in range(2):
    grads = torch.autograd.grad(net(x).pow(2).mean(), weights, create_graph=True)
    fast = [STEP for p, g in zip(weights, grads)]
    loss = OUTER
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
OUTER = "torch.nn.functional.linear(x, *fast).pow(2).mean()"


def lines(step: str, outer: str = OUTER) -> list[int]:
    answers = build(recorded(SOURCE.replace("STEP", step).replace("OUTER", outer))).answers
    return [cause.line for one in answers if one.code == "step-from-detached-weights" for cause in one.causes[:1]]


@pytest.mark.parametrize("step", ["p.data - 0.1 * g", "p.detach().clone().add(g, alpha=-0.1)"])
def test_the_line_that_cuts_the_weights_off_is_named(step: str):
    assert lines(step) == [7]


@pytest.mark.parametrize(
    ("step", "outer"),
    [
        ("p - 0.1 * g", OUTER),
        ("p.detach() - 0.1 * g.detach()", OUTER + " + net(x).mean()"),
        ("g + p.detach()", "sum(one.pow(2).sum() for one in fast)"),
    ],
)
def test_steps_with_both_ways_or_none_and_penalties_are_fine(step: str, outer: str):
    assert lines(step, outer) == []
