"""A virtual step that an optimizer makes: no gradient comes through it to what the inner loss was weighted with."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

VIRTUAL = """import torch
from torch import nn
net = nn.Linear(4, 1)
weight = torch.zeros(6, 1, requires_grad=True)
inner = torch.optim.SGD(net.parameters(), lr=0.1)
x, y = torch.randn(6, 4), torch.randn(6, 1)
loss = ((net(x) - y).pow(2) * weight.sigmoid()).mean()
loss.backward()  # gives
inner.step()  # steps
outer = (net(x) - y).pow(2).mean()
gradient = torch.autograd.grad(outer, weight)
"""
BY_HAND = """with torch.no_grad():
    for p in net.parameters():
        p -= 0.1 * p.grad  # steps
"""


def causes(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "asked-for-gradient"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("inner.step()  # steps\n", BY_HAND),
        ("inner.step()  # steps\n", "for p in net.parameters():\n    p.data.sub_(0.1 * p.grad)  # steps\n"),
    ],
)
def test_the_step_is_what_no_gradient_comes_through(old: str, new: str) -> None:
    source = VIRTUAL.replace(old, new)
    assert causes(source) == [[line_of(source, "# steps"), line_of(source, "# gives")]]


@pytest.mark.parametrize("line", ["inner.step()  # steps\n", " * weight.sigmoid()"])
def test_it_is_not_the_cause_where_there_is_none(line: str) -> None:
    source = VIRTUAL.replace(line, "")
    assert line_of(VIRTUAL, "# steps") not in [one for several in causes(source) for one in several[:1]]


def test_a_step_of_new_tensors_has_a_gradient() -> None:
    source = VIRTUAL.replace(
        "loss.backward()  # gives\ninner.step()  # steps\n",
        "grads = torch.autograd.grad(loss, list(net.parameters()), create_graph=True)\n"
        "net = lambda x, w=[p - 0.1 * g for p, g in zip(net.parameters(), grads)]: nn.functional.linear(x, *w)\n",
    )
    assert causes(source) == []
