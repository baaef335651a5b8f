"""Hooks that compute another value and do not return it."""

from __future__ import annotations

import textwrap

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
kept = []
def hook(module, given, values):
{}
net[1].register_full_backward_hook(hook)
net(torch.randn(3, 4)).sum().backward()
"""


def lines(body: str) -> list[int]:
    answers = build(recorded(SOURCE.format(textwrap.indent(body, "    ")))).answers
    return [cause.line for one in answers if one.code == "hook-returns-nothing" for cause in one.causes]


def test_the_assignment_is_named_before_the_registration():
    assert lines("given = tuple(g.clamp(min=0) for g in given)") == [5, 6]


@pytest.mark.parametrize(
    "body",
    [
        "given = tuple(g.clamp(min=0) for g in given)\nreturn given",
        "given = given[0].cpu()\nkept.append(given)",
        "other = given[0] * 2",
        "given = kept",
    ],
)
def test_what_is_returned_read_or_another_name_is_fine(body: str):
    assert lines(body) == []


FORWARD = """\
import torch
net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU())
kept = []
def hook(module, given{more}):
{body}
net[1].register_forward_{kind}(hook)
for _ in range(3):
    net(torch.randn(3, 4)).sum().backward()
"""


def lines_of_forward(body: str, kind: str = "hook") -> list[int]:
    more = ", out" if kind == "hook" else ""
    answers = build(recorded(FORWARD.format(body=textwrap.indent(body, "    "), kind=kind, more=more))).answers
    return [cause.line for one in answers if one.code == "hook-returns-nothing" for cause in one.causes]


def test_a_new_name_in_a_forward_hook_is_named_where_nothing_reads_it():
    assert lines_of_forward("(x,) = given\nnoisy = x + torch.randn_like(x)", "pre_hook") == [6, 7]
    assert lines_of_forward("x = given[0]\nx = (torch.clamp(x, 0, 1),)", "pre_hook") == [6, 7]
    assert lines_of_forward("mask = torch.rand_like(out) > 0.5\nif module.training:\n    new = out * mask") == [7, 8]
    assert lines_of_forward("if not module.training:\n    return None\nnew = out * 2") == [7, 8]
    assert lines_of_forward("new = out.clone()\nnew[:, 0] = 0.0\nnew.clamp_(max=1)") == [5, 8]


@pytest.mark.parametrize(
    "body",
    [
        "new = out * 2\nreturn new",
        "new = out * 2\nkept.append(new)",
        "new = out * 2\nout.copy_(new) if False else None",
        "norm = out.norm()",
        "fired = out > 0",
        "_ = out * 2",
        "x = given[0]",
        "global last\nlast = out * 2",
        "new = torch.zeros(3, 4)",
        "if not module.training:\n    new = out * 2",
    ],
)
def test_what_a_forward_hook_looks_at_or_keeps_is_fine(body: str):
    assert lines_of_forward(body) == []


GRADIENT = """\
import torch
weight = torch.nn.Parameter(torch.randn(3))
kept = []
class Clip:
    def hook(self, grad):
{}
weight.register_hook(Clip().hook)
for _ in range(3):
    (weight * torch.randn(3)).sum().backward()
"""


def lines_of_gradient(body: str) -> list[int]:
    answers = build(recorded(GRADIENT.format(textwrap.indent(body, "        ")))).answers
    return [cause.line for one in answers if one.code == "hook-returns-nothing" for cause in one.causes]


@pytest.mark.parametrize(
    "body",
    [
        "torch.clamp(grad, -0.1, 0.1)",
        "grad.clamp(-0.1, 0.1)",
        "torch.nan_to_num(grad * 0.5)",
        "grad * 0.5",
        "scaled = grad * 0.5",
        "scaled = torch.clamp(grad, -0.1, 0.1)",
    ],
)
def test_another_gradient_that_nothing_takes_is_named(body: str):
    assert lines_of_gradient(body) == [6, 7]


@pytest.mark.parametrize(
    "body",
    [
        "return torch.clamp(grad, -0.1, 0.1)",
        "grad.clamp_(-0.1, 0.1)",
        "torch.clamp(grad, -0.1, 0.1, out=grad)",
        "norm = grad.norm()",
        "kept.append(grad * 0.5)",
        "scaled = grad * 0.5\nprint(scaled)",
        "grad.norm()",
        "scaled = grad * 0.5\nif len(kept) > 9:\n    return scaled",
    ],
)
def test_a_hook_that_looks_at_a_gradient_or_changes_it_is_fine(body: str):
    assert lines_of_gradient(body) == []


def test_a_hook_that_never_ran_is_not_said_to_give_nothing_back():
    source = GRADIENT.format("        torch.clamp(grad, -1, 1)").replace(
        "(weight *", "(2 * torch.ones(3).requires_grad_() *"
    )
    assert not [one for one in build(recorded(source)).answers if one.code == "hook-returns-nothing"]
