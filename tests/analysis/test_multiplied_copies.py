"""A helper's copies of a gradient that hold the earlier one too: their product is told of, what is meant is silent."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

ROUNDS = """\
import torch
net = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
def gradient(x):
    {before}
    net(x).pow(2).mean().backward()
    return {taken}
for x in torch.randn(4, 5, 3):
    opt.zero_grad()
    a, b = gradient(x[:2]), gradient(x[2:])
    {combined}
    {after}
"""
FLAT = "torch.cat([p.grad.flatten() for p in net.parameters()])"


def lines(combined: str, taken: str = FLAT, before: str = "pass", after: str = "pass") -> list[int]:
    source = ROUNDS.format(combined=combined, taken=taken, before=before, after=after)
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "gradients-taken-again" for cause in one.causes]


@pytest.mark.parametrize(
    ("combined", "taken"),
    [
        ("a @ b", FLAT),
        ("torch.nn.functional.cosine_similarity(a, b, dim=0)", FLAT),
        ("sum((one * other).sum() for one, other in zip(a, b))", "[p.grad.clone() for p in net.parameters()]"),
        ("(b - (a @ b) / (a @ a) * a)", FLAT),
    ],
)
def test_the_helper_is_named(combined: str, taken: str) -> None:
    assert lines(combined, taken) == [6, 7]


def test_so_it_is_where_something_else_is_applied() -> None:
    assert lines("a @ b", after="net.weight.grad = a[:6].view(2, 3); net.bias.grad = a[6:]; opt.step()") == [6, 7]


@pytest.mark.parametrize(
    ("combined", "before", "after"),
    [
        ("a @ b", "opt.zero_grad()", "pass"),
        ("a @ (b - a)", "pass", "pass"),
        ("a @ b", "pass", "opt.step()"),
        ("a.norm() * b.norm()", "pass", "pass"),
    ],
)
def test_what_is_cleared_subtracted_first_or_applied_as_it_is_is_fine(combined: str, before: str, after: str) -> None:
    assert lines(combined, before=before, after=after) == []
