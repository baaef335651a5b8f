"""Gradients that are taken after each pass, with those of earlier passes in them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

INPUT = """\
import torch
net = torch.nn.Linear(3, 2).requires_grad_(False)
x = torch.randn(1, 3, requires_grad=True)
total, kept, before = torch.zeros(1, 3), [], torch.zeros(1, 3)
for sample in range(5):
    {before}
    net(x + 0.1 * torch.randn(1, 3))[0, 0].backward()
    {taken}
{after}
print(total, kept)
"""
WEIGHTS = """\
import torch
net = torch.nn.Linear(3, 2)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
sums = {{n: torch.zeros_like(p) for n, p in net.named_parameters()}}
norms = []
for x in torch.randn(5, 1, 3):
    {before}
    net(x).log_softmax(-1)[0, 0].backward()
    for n, p in net.named_parameters():
        {taken}
    {after}
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "gradients-taken-again" for cause in one.causes]


def of_input(taken: str, before: str = "pass", after: str = "pass") -> list[int]:
    return lines(INPUT.format(taken=taken.replace("; ", "\n    "), before=before, after=after))


def of_weights(taken: str, before: str = "pass", after: str = "pass") -> list[int]:
    return lines(WEIGHTS.format(taken=taken, before=before, after=after))


@pytest.mark.parametrize(
    "taken",
    [
        "total += x.grad",
        "total = total + x.grad.abs() / 5",
        "kept.append(x.grad.abs())",
        "kept.append(x.grad.clone())",
        "total += x.grad ** 2",
    ],
)
def test_what_is_added_up_or_kept_of_an_inputs_gradient_is_told_of(taken: str) -> None:
    assert of_input(taken) == [7, 8]


def test_so_is_a_sum_of_squares_of_the_gradients_of_weights() -> None:
    assert of_weights("sums[n] += p.grad.detach() ** 2 / 5") == [8, 10]
    assert of_weights("sums[n] = sums[n] + p.grad.pow(2)") == [8, 10]


@pytest.mark.parametrize(
    ("taken", "before", "after"),
    [
        ("total += x.grad", "x.grad = None", "pass"),
        ("total += x.grad; x.grad.zero_()", "pass", "pass"),
        ("pass", "pass", "total += x.grad"),
        ("kept.append(x.grad.norm().item())", "pass", "pass"),
        ("kept.append(x.grad.norm())", "pass", "pass"),
        ("kept.append(x.grad - before); before = x.grad.clone()", "pass", "pass"),
        ("total.copy_(x.grad)", "pass", "pass"),
    ],
)
def test_what_is_cleared_read_once_or_looked_at_is_fine(taken: str, before: str, after: str) -> None:
    assert of_input(taken, before, after) == []


@pytest.mark.parametrize(
    ("taken", "before", "after"),
    [
        ("sums[n] += p.grad ** 2", "net.zero_grad()", "pass"),
        ("sums[n] += p.grad ** 2", "opt.zero_grad(set_to_none=False)", "pass"),
        ("norms.append(p.grad.norm())", "pass", "pass"),
        ("norms.append(p.grad.clone())", "pass", "pass"),
        ("sums[n] += p.grad ** 2", "pass", "opt.step()"),
    ],
)
def test_weights_that_are_cleared_stepped_or_looked_at_are_fine(taken: str, before: str, after: str) -> None:
    assert of_weights(taken, before, after) == []
