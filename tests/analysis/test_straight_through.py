"""Straight-through estimates, the right way round and the wrong one."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
encoder, decoder, table = torch.nn.Linear(4, 3), torch.nn.Linear(3, 4), torch.nn.Embedding(5, 3)
x = torch.rand(6, 4)
z = encoder(x)
with torch.no_grad():
    index = torch.cdist(z, table.weight).argmin(1)
codes = table(index)
hard = torch.sign(z)
soft = z.softmax(1)
one = torch.nn.functional.one_hot(soft.argmax(1), 3).float()
pull = (codes - z.detach()).pow(2).mean()
{}
(decoder(y) + pull).sum().backward()
print(encoder.weight.grad)
"""


def report(body: str) -> dict[str, list[int]]:
    answers = build(recorded(PROGRAM.format(body))).answers
    return {one.code: [cause.line for cause in one.causes] for one in answers if one.severity != "note"}


@pytest.mark.parametrize(
    "body",
    [
        "y = codes + (z - codes).detach()  # here",
        "y = codes - (codes - z).detach()  # here",
        "offset = z.detach() - codes.detach()\ny = codes + offset  # here",
        "y = hard + (z - hard).detach()  # here",
        "y = one - soft + soft.detach()  # here",
        "y = z.detach() + (hard - z)  # here",
        "y = hard - (z - z.data)  # here",
        "scaled = z / 0.1\ny = 0.1 * (scaled.detach() + scaled.round() - scaled)  # here",
        "y = z.detach() + (codes - z)  # here",
        "weights = z.softmax(1)\nfirst = torch.nn.functional.one_hot(z.argmax(1), 3)\n"
        "y = first - weights + weights.detach()  # here",
    ],
)
def test_the_sum_is_the_cause_and_no_other_line_is(body: str) -> None:
    found = report(body)
    here = [line_of(PROGRAM.format(body), "# here")]
    assert found["straight-through-reversed"] == here
    assert all(lines == here for lines in found.values())


@pytest.mark.parametrize(
    "body",
    [
        "y = z + (codes - z).detach()",
        "y = z - (z - codes).detach()",
        "y = z + (hard - z).detach()",
        "y = one - soft.detach() + soft",
        "y = torch.tanh(z) + (hard - torch.tanh(z)).detach()",
        "y = z + codes.detach()",
        "y = codes + z",
        "y = hard + (z - z.detach())",
        "y = 2 * z.detach() - z",
        "y = z.detach() - (z - z.detach())",
        "y = z.detach() + (torch.tanh(z) - z)",
        "y = z.detach() + (encoder(x + 1) - z)",
        "y = z.detach() + (hard - z) + 2 * z",
    ],
)
def test_what_hands_the_gradient_on_is_none(body: str) -> None:
    assert "straight-through-reversed" not in report(body)


def test_values_that_were_rebuilt_are_blamed_before_indices_that_were_chosen() -> None:
    source = """
import torch
gate, out = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
x = torch.rand(4, 3)
shares = gate(x).softmax(1)
with torch.no_grad():
    choice = shares.argmax(1)
terms = [shares[:, one].mean() * (choice == one).float().mean() for one in range(2)]
balance = torch.tensor(terms).sum()
rows = out(x).gather(1, choice[:, None])
(rows.pow(2).mean() + balance).backward()
print(gate.weight.grad)
"""
    (found,) = [one for one in build(recorded(source)).answers if one.code == "grad-none-unreached"]
    assert [cause.line for cause in found.causes] == [line_of(source, "torch.tensor(terms)")]
