"""Values computed beside indices under no_grad, of which an energy's derivative by the positions lacks the way."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

ENERGY = """import torch
from torch import nn
torch.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
judge = nn.Linear(3, 4)
def pairs(pos):
    source, target = (torch.cdist(pos, pos) > 0).nonzero(as_tuple=True)
    cosine = (pos[source] * pos[target]).sum(1) / (pos[source].norm(dim=1) * pos[target].norm(dim=1))
    return source, target, cosine
def energy_of(pos):
    with torch.no_grad():  # cuts
        source, target, cosine = pairs(pos)
    length = (pos[source] - pos[target]).norm(dim=1)
    return net(torch.stack([length, cosine], 1)).sum()
pos = torch.randn(4, 3).requires_grad_()
energy = energy_of(pos)
(slope,) = torch.autograd.grad(energy, pos)
print(slope.abs().max())
"""
BLOCK = "    with torch.no_grad():  # cuts\n        source"
COSINE = ENERGY[ENERGY.index("(pos[source] * pos[target])") : ENERGY.index("    return source")].rstrip()
FORCES = ENERGY[ENERGY.index("(slope,)") :]


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "term-without-gradient" for cause in one.causes]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("net(torch.stack([length, cosine], 1)).sum()", "(length.pow(2) * (1 + cosine)).sum()"),
        (FORCES, "energy.backward()\nprint(-pos.grad)\n"),
        ("(torch.cdist(pos, pos) > 0).nonzero(as_tuple=True)", "torch.triu_indices(4, 4, 1)"),
    ],
)
def test_the_block_of_the_indices_is_the_cause(old: str, new: str) -> None:
    assert old in ENERGY
    source = ENERGY.replace(old, new, 1)
    assert lines(source) == [line_of(source, "# cuts")]


def test_a_decorator_is_one() -> None:
    source = ENERGY.replace(BLOCK, "    source").replace("def pairs", "@torch.no_grad()\ndef pairs")
    assert lines(source) == [line_of(source, "@torch.no_grad()")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BLOCK, "    if True:\n        source"),
        ("[length, cosine]", "[length, length]"),  # not used
        (COSINE, "judge(pos).softmax(1).amax(1)[source]"),  # a confidence, which parameters gave
        (COSINE, "(pos[source] * pos[target]).sum(1).round()"),
        (COSINE, "torch.rand(len(source))"),
        # Of what parameters are trained by, the positions have no part:
        ("(slope,) = torch.autograd.grad(energy, pos)", "slope = torch.autograd.grad(energy, net[0].weight)[0]"),
        (FORCES, "energy.backward()\nprint(net[0].weight.grad)\n"),
        # Nothing but a value is computed in the block, so that it was written for this one:
        (
            ENERGY[ENERGY.index(BLOCK) : ENERGY.index("    length =")],
            "    source, target = torch.triu_indices(4, 4, 1)\n    with torch.no_grad():\n"
            "        cosine = pairs(pos)[2][:6]\n",
        ),
    ],
)
def test_values_that_are_constants_on_purpose_are_none(old: str, new: str) -> None:
    assert old in ENERGY
    assert lines(ENERGY.replace(old, new, 1)) == []
