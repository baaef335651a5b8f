"""Full backward hooks of modules that give zeros: the layers before are cut off, or have another way."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import torch
from torch import nn
torch.manual_seed(0)
before, middle, head = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Linear(4, 1)
side, is_on = nn.Linear(4, 1), [True]
def zeros(module, grad_input, grad_output):
    return tuple(None if g is None else torch.zeros_like(g) for g in grad_input)  # gives
def sometimes(module, grad_input, grad_output):
    return tuple(torch.zeros_like(g) for g in grad_input) if is_on[0] else None
def show(module, grad_input, grad_output):
    print(grad_output[0].norm())
def halve(module, grad_input, grad_output):
    return (grad_input[0] * 0.5,)
net = nn.ModuleList([before, middle, head, side])
"""
LOOP = """
optimizer = torch.optim.SGD({}, lr=0.1)
for step in range(4):
    is_on[0] = step < 2
    optimizer.zero_grad()
    h = before(torch.ones(2, 3))
    loss = head(middle(h)).pow(2).sum(){}
    loss.backward()
    optimizer.step()
"""


def found(hook: str, parameters: str = "net.parameters()", more: str = "") -> list[list[int]]:
    answers = build(recorded(HEAD + hook + LOOP.format(parameters, more))).answers
    named = (one for one in answers if one.code == "hook-zeroes-gradient" and one.severity == "warning")
    return [[cause.line for cause in one.causes] for one in named]


@pytest.mark.parametrize(
    "hook",
    [
        "middle.register_full_backward_hook(zeros)",
        "middle[0].register_full_backward_hook(zeros)",
        "middle.register_full_backward_hook(zeros); head.register_full_backward_hook(show)",
        "middle.register_full_backward_hook(zeros); before.register_full_backward_hook(show)",
    ],
)
def test_what_comes_before_gets_zeros(hook: str) -> None:
    assert found(hook) == [[line_of(HEAD, "# gives"), HEAD.count("\n")]]


def test_a_lambda() -> None:
    line = HEAD.count("\n")
    assert found("middle.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0,))") == [[line]]


@pytest.mark.parametrize(
    ("hook", "parameters", "more"),
    [
        ("middle.requires_grad_(False)", "net.parameters()", ""),
        ("middle.register_full_backward_hook(show)", "net.parameters()", ""),
        ("middle.register_full_backward_hook(halve)", "net.parameters()", ""),
        ("middle.register_full_backward_hook(sometimes)", "net.parameters()", ""),
        ("middle.register_full_backward_hook(zeros)", "middle.parameters()", ""),
        ("middle.register_full_backward_hook(zeros)", "net.parameters()", " + side(h).sum()"),
        ("before.register_full_backward_hook(zeros)", "net.parameters()", ""),
    ],
)
def test_where_nothing_that_is_trained_is_cut_off(hook: str, parameters: str, more: str) -> None:
    assert not found(hook, parameters, more)


ASKED = """
x = torch.ones(2, 3, requires_grad=True)
handles = [middle.register_full_backward_hook(zeros)]  # registers
score = (head(middle(before(x))) + x.sum(1, keepdim=True)).sum()
{asks}  # asks
{removes}
"""


@pytest.mark.parametrize(
    "asks", ["torch.autograd.grad(score, x)", "score.backward(inputs=[x])", "torch.autograd.grad(score, [x], None)"]
)
def test_a_hook_that_was_meant_for_a_pass_before_and_has_stayed(asks: str) -> None:
    source = HEAD + ASKED.format(asks=asks, removes="handles.clear()") + LOOP.format("net.parameters()", "")
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "hook-zeroes-gradient"]
    lines = [line_of(source, mark) for mark in ("# gives", "# registers", "# asks")]
    assert [cause.line for cause in answer.causes] == lines[:2]
    assert f"registered before line {lines[2]} asked" in answer.text and "remove()" in answer.text


@pytest.mark.parametrize("asks", ["torch.autograd.grad(score, x)", "score.backward(inputs=[x])"])
@pytest.mark.parametrize("order", ["{asked}{loop}", "{loop}{kept}"])
def test_a_hook_that_is_removed_or_comes_after_the_training(asks: str, order: str) -> None:
    asked = ASKED.format(asks=asks, removes="handles.pop().remove()")
    kept = ASKED.format(asks="score.backward()", removes="")
    source = HEAD + order.format(asked=asked, loop=LOOP.format("net.parameters()", ""), kept=kept)
    assert not [one for one in build(recorded(source)).answers if one.code == "hook-zeroes-gradient"]
