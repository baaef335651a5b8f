"""Losses of an accumulation that are divided when their pass is over."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

ROUNDS = """\
import torch
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
accum, running, kept = 4, 0.0, []
for i, x in enumerate(torch.randn(12, 8, 3)):
    loss = net(x).pow(2).mean()
    {}
    if (i + 1) % accum == 0:
        {}
        opt.step()
        opt.zero_grad()
"""
PARTS = """\
import torch
net = torch.nn.Linear(3, 1)
opt = torch.optim.SGD(net.parameters(), lr=0.1)
def step(batch):
    opt.zero_grad()
    parts = batch.chunk(3)
    total = 0.0
    for part in parts:
        loss = net(part).pow(2).mean()
        loss.backward()
        {}
        total += loss.item()
    opt.step()
    return total
for batch in torch.randn(3, 6, 3):
    step(batch)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [one.causes[0].line for one in answers if one.code == "divided-for-nothing"]


@pytest.mark.parametrize(
    "body",
    [
        "loss.backward(); loss = loss / accum; running += loss.item()",
        "loss.backward(); loss = loss.div(accum); running += loss.item()",
        "loss.backward(); loss = loss / 4",
    ],
)
def test_a_division_behind_the_pass_is_in_vain(body: str) -> None:
    assert lines(ROUNDS.format(body.replace("; ", "\n    "), "pass")) == [8]


def test_so_it_is_in_a_loop_over_the_parts_of_a_batch() -> None:
    assert lines(PARTS.format("loss = loss / len(parts)")) == [11]
    assert lines(PARTS.format("loss /= len(parts)")) == [11]
    assert lines(PARTS.format("loss = loss / len(part)")) == []
    assert lines(PARTS.format("pass")) == []


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("loss = loss / accum; loss.backward(); running += loss.item()", "pass"),
        ("loss.backward(); running += (loss / accum).item()", "pass"),
        ("loss.backward(); mean = loss / accum; running += mean.item()", "pass"),
        ("loss.backward(); loss = loss.item() / accum; running += loss", "pass"),
        ("loss.backward(); loss = loss.detach() / accum; running += loss", "pass"),
        ("loss.backward(); loss = loss / x.size(0); running += loss.item()", "pass"),
        ("loss.backward(); loss = loss / accum; running += loss.item()", "net.weight.grad /= 4; net.bias.grad /= 4"),
        ("loss.backward(retain_graph=True); loss = loss / accum; loss.backward()", "pass"),
    ],
)
def test_what_is_divided_before_for_a_look_or_in_the_gradients_is_fine(body: str, more: str) -> None:
    assert lines(ROUNDS.format(body.replace("; ", "\n    "), more)) == []
