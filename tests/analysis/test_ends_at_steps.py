"""Bilevel loops in which the outer loss leads to the hyperparameter only through an optimizer's step."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

STEPPED = """
import copy
import torch
from torch import nn
torch.manual_seed(0)
base, log_weight = nn.Linear(3, 1), nn.Parameter(torch.tensor(-1.0))
outer = torch.optim.Adam([log_weight], lr=0.1)
model = base
inner = torch.optim.SGD(model.parameters(), lr=0.1)
for round in range(4):
    BEGIN
    for _ in range(2):
        loss = model(torch.randn(8, 3)).square().mean() + log_weight.exp() * model.weight.square().sum()
        inner.zero_grad()
        loss.backward()
        inner.step()  # steps
    CLEAR
    held_out = model(torch.randn(8, 3)).square().mean()
    held_out.backward()  # outer
    outer.step()
"""
COPY = "model = copy.deepcopy(base); inner = torch.optim.SGD(model.parameters(), lr=0.1)"
OUTER = "outer.zero_grad()"


def told(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code in ("graph-ends-at-step", "never-stepped")]


def written(begin: str = "pass", clear: str = "pass") -> str:
    return STEPPED.replace("BEGIN", begin).replace("CLEAR", clear)


@pytest.mark.parametrize("begin", [OUTER, f"{OUTER}; {COPY}"])
def test_the_step_applies_the_gradient_of_the_inner_loss(begin: str) -> None:
    source = written(begin)
    (answer,) = told(source)
    assert answer.causes[0].line == line_of(source, "# steps")
    assert "applies is the gradient of the loss of line" in answer.text


@pytest.mark.parametrize("begin", ["pass", COPY])
def test_the_step_has_nothing_to_apply_where_that_was_cleared(begin: str) -> None:
    source = written(begin, OUTER)
    (answer,) = told(source)
    assert answer.code == "graph-ends-at-step"
    assert answer.causes[0].line == line_of(source, "# steps")
    assert "has nothing to apply" in answer.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # the hyperparameter is in the outer loss itself
        ("held_out = ", "held_out = log_weight.exp() + "),
        # no outer loss: both are trained by one
        ("    held_out.backward()  # outer\n", ""),
        # the gradient that the pass gave the weights is used by hand: a finite difference, a norm that is logged
        ("    outer.step()", "    log_weight.grad = model.weight.grad.sum().detach()\n    outer.step()"),
        ("    outer.step()", "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    outer.step()"),
        # the weights are stepped by the outer loss, too
        ("    outer.step()", "    inner.step()\n    outer.step()"),
    ],
)
def test_other_passes_before_the_step_are_no_such_loop(old: str, new: str) -> None:
    source = written(OUTER).replace(old, new)
    assert source != written(OUTER)
    assert [one.code for one in told(source) if one.code == "graph-ends-at-step"] == []


def test_a_generator_and_a_discriminator_are_no_such_loop() -> None:
    source = """
import torch
from torch import nn
g, d = nn.Linear(2, 2), nn.Linear(2, 1)
of_g, of_d = (torch.optim.Adam(one.parameters(), lr=0.1) for one in (g, d))
for _ in range(4):
    of_d.zero_grad()
    (d(g(torch.randn(4, 2)).detach()).mean() - d(torch.randn(4, 2)).mean()).backward()
    of_d.step()
    of_g.zero_grad()
    (-d(g(torch.randn(4, 2))).mean()).backward()
    of_g.step()
"""
    assert told(source) == []
