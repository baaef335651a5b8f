"""Gradients of ``autograd.grad`` that an optimizer's copies of the parameters are given; and where that is meant."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import copy
import torch
from torch import nn
model, x = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)), torch.rand(5, 2)
def handed(model):
    return [p.detach().clone() for p in model.parameters()]  # copied
copies = handed(model)
optimizer = torch.optim.SGD(copies, lr=0.1, momentum=0.9)  # made
def gradients(model):
    return torch.autograd.grad(model(x).pow(2).mean(), list(model.parameters()))
for step in range(5):
    for p, g in zip(copies, gradients(model)):
        p.grad = g
    optimizer.step()
    after = step
"""
HANDED = "[p.detach().clone() for p in model.parameters()]"


def said(old: str = "", new: str = "") -> tuple[str, list[int]]:
    assert old in PROGRAM
    source = PROGRAM.replace(old, new) if old else PROGRAM
    answers = build(recorded(source)).answers
    return source, [cause.line for one in answers if one.code == "never-stepped" for cause in one.causes]


@pytest.mark.parametrize(
    "handed",
    [HANDED, "[p.data.clone().requires_grad_() for p in model.parameters()]", "[p + 0 for p in handed_on]"],
)
def test_the_line_that_copied_the_parameters_is_the_cause(handed: str) -> None:
    handed = handed.replace("handed_on", "[q.detach() for q in model.parameters()]")
    source, lines = said(HANDED, handed)
    assert lines == [line_of(source, "# copied"), line_of(source, "# made")]


@pytest.mark.parametrize(
    "handed", ["list(copy.deepcopy(model).parameters())", "copy.deepcopy(list(model.parameters()))"]
)
def test_of_a_deep_copy_the_optimizer_is(handed: str) -> None:
    source, lines = said(HANDED, handed)
    assert lines == [line_of(source, "# made")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(HANDED, "[p.detach() for p in model.parameters()]", id="they share their memory"),
        pytest.param(HANDED, "list(model.parameters())", id="the parameters themselves"),
        pytest.param(
            "    after = step", "    for p, q in zip(model.parameters(), copies): p.data.copy_(q)", id="copied back"
        ),
        pytest.param(
            "    after = step",
            "    if step == 4: model.load_state_dict(dict(zip(model.state_dict(), copies)))",
            id="copied back at the end",
        ),
        pytest.param(
            "    after = step",
            "    print(torch.func.functional_call(model, dict(zip(model.state_dict(), copies)), x))",
            id="computed with",
        ),
        pytest.param("    after = step", "    print(copies[0].norm())", id="one of them looked at"),
        pytest.param("range(5)", "range(1)", id="one step"),
        pytest.param("p.grad = g", "p.grad = torch.rand_like(p)", id="gradients of another kind"),
    ],
)
def test_it_is_silent_where_the_copies_are_used(old: str, new: str) -> None:
    assert said(old, new)[1] == []
