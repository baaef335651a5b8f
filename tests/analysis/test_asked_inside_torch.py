"""Gradients that torch's own Python asks for, in a call of the program's, and gets None or not."""

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recording import Recording
from gradscope.recording.flags import BELOW
from tests.analysis.building import recorded

CODES = ("asked-for-gradient", "grad-of-other-view")
HEAD = """
import torch
net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh())
a, v = torch.ones(3, requires_grad=True), torch.ones(3)
total = lambda t: net(t).pow(2).sum()
outside = lambda t: a.pow(2).sum()
inside = torch.autograd.functional
"""
OF_VIEW = "t = a.view_as(a)\ntorch.autograd.grad(outside(t), t, allow_unused=True)\n"
BY_HAND = "t = a.detach().requires_grad_()\ntorch.autograd.grad(outside(t), t, allow_unused=True)\n"
HESSIAN = f"{HEAD}inside.hessian(total, a)\n"


def told(recording: Recording) -> list[str]:
    return [one.text for one in build(recording).answers if one.code in CODES]


@pytest.mark.parametrize(
    "asks",
    [
        "inside.hessian(total, a)",
        "inside.jacobian(net, a)",
        "inside.vhp(total, a, v)",
        "inside.hvp(total, a, v)",
        "inside.vjp(total, a)",
        "inside.hvp(total, a, v, create_graph=True)[1].sum().backward()",
    ],
)
def test_a_gradient_that_was_given_is_not_said_to_be_none(asks: str) -> None:
    assert told(recorded(HEAD + asks)) == []


def test_nor_is_it_where_it_is_not_known_who_asked() -> None:
    recording = recorded(HESSIAN)
    flags = recording.ops.column("flags")
    for op in range(len(flags)):
        flags[op] &= ~BELOW
    assert told(recording) == []


@pytest.mark.parametrize(
    "asks",
    [
        "inside.vjp(outside, a)\n",
        "inside.jacobian(outside, a)\n",
        "inside.hvp(outside, a, v)\n",
        "inside.vjp(outside, a, create_graph=True)\n",
        "inside.jacobian(outside, a, create_graph=True)\n",
    ],
)
def test_what_torch_asks_in_vain_is_not_told_as_a_question_of_the_programs(asks: str) -> None:
    assert told(recorded(HEAD + asks)) == []


@pytest.mark.parametrize(
    ("asks", "words"),
    [(BY_HAND, "gave no gradient (None) for t: "), (OF_VIEW, "gave no gradient (None) for the view of a")],
    ids=["of a copy", "of a view"],
)
def test_the_same_question_of_the_programs_own_is_told(asks: str, words: str) -> None:
    (text,) = told(recorded(HEAD + asks))
    assert words in text
