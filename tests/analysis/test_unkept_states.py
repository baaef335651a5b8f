"""Momentum by hand whose running value only a name gets: each step begins from the old one again."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SOURCE = """\
import torch
torch.manual_seed(0)
net = torch.nn.Linear(3, 2)
kept = [torch.zeros_like(p) for p in net.parameters()]
fixed = [torch.full_like(p, 0.1) for p in net.parameters()]
state = {{p: {{"v": torch.zeros_like(p)}} for p in net.parameters()}}
lr, mu = 0.1, 0.9
def helper(p, v, g):
    v = mu * v + g
    p.data.sub_(lr * v)
for step in range(4):
    net(torch.randn(5, 3)).pow(2).sum().backward()
    with torch.no_grad():
        for i, (p, v, c) in enumerate(zip(net.parameters(), kept, fixed)):
{}
    net.zero_grad()
"""


def lines(body: str) -> list[int]:
    indented = "\n".join(f"            {line}" for line in body.splitlines())
    answers = build(recorded(SOURCE.format(indented))).answers
    return [cause.line for one in answers if one.code == "update-lost" for cause in one.causes]


@pytest.mark.parametrize(
    "body",
    [
        "v = mu * v + p.grad\np -= lr * v",
        "v = v.mul(mu).add(p.grad)\np.sub_(v, alpha=lr)",
        "v = torch.lerp(v, p.grad, 0.1)\np -= lr * v",
        "g = p.grad + 0.01 * p\nv = mu * v + (1 - mu) * g**2\np -= lr * g / (v.sqrt() + 1e-8)",
        "v = v + p.grad**2\np -= lr * p.grad / (v.sqrt() + 1e-8)",
    ],
)
def test_a_running_value_that_only_a_name_gets_is_told_of(body: str) -> None:
    assert lines(body) == [15 + body.splitlines().index(next(one for one in body.splitlines() if one[:3] == "v ="))]


def test_of_what_a_dictionary_keeps_and_of_a_helpers_argument_as_well() -> None:
    assert lines('buf = state[p]["v"]\nbuf = mu * buf + p.grad\np -= lr * buf') == [16]
    assert lines("helper(p, v, p.grad)") == [line_of(SOURCE, "v = mu * v + g")]


@pytest.mark.parametrize(
    "body",
    [
        "v.mul_(mu).add_(p.grad)\np -= lr * v",
        "v = mu * v + p.grad\nkept[i] = v\np -= lr * v",
        "v = mu * v + p.grad\nkept[i].copy_(v)\np -= lr * v",
        'buf = state[p]["v"]\nbuf = mu * buf + p.grad\nstate[p]["v"] = buf\np -= lr * buf',
        "g = p.grad\ng = g + 0.01 * p\np -= lr * g",
        "g = p.grad\ng = 0.5 * g + 0.01 * c\np -= lr * g",
        "c = c + p.grad\np -= lr * c",
        "d = mu * c + p.grad\np -= lr * d",
    ],
)
def test_what_is_kept_written_or_no_running_value_is_fine(body: str) -> None:
    assert lines(body) == []


def test_fewer_rounds_than_three_say_nothing() -> None:
    body = "            v = mu * v + p.grad\n            p -= lr * v"
    assert not [
        one
        for one in build(recorded(SOURCE.replace("range(4)", "range(2)").format(body))).answers
        if one.code == "update-lost"
    ]
