"""A model that is made anew in each of many rounds: all its leaves are counted, and told why they have no gradient."""

from __future__ import annotations

import pytest

from gradscope.analysis.facts import gradients
from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import BackwardPass
from tests.analysis.building import recorded

ANEW = """
import torch
from torch import nn
def fresh():
    return {model}
w, x = torch.tensor(1.0, requires_grad=True), torch.randn(5, 3)
for n in range({rounds}):
    {make}
    fast = {{k: v.detach().requires_grad_() for k, v in model.named_parameters()}}
    loss = w * torch.func.functional_call(model, fast, (x,)).pow(2).mean()
    loss.backward()
"""
COUNTED = """
    leaves += [leaf.grad is not None for leaf in (*fast.values(), *model.parameters())]
leaves.append(w.grad is not None)
"""
MAKES = {
    "by its class": ("None", "model = nn.Linear(3, 1)"),
    "by a function": ("nn.Linear(3, 1)", "model = fresh()"),
    "of parts": ("nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))", "model = fresh()"),
    "of parts that are alike": ("nn.Sequential(*(nn.Linear(3, 3) for _ in range(3)))", "model = fresh()"),
}


def passes_of(model: str, make: str, rounds: int) -> BackwardPass:
    (found,) = build(recorded(ANEW.format(model=model, make=make, rounds=rounds))).backwards
    return found


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("rounds", [6, 25, 40])
def test_the_leaves_of_each_round_are_counted(make: str, rounds: int) -> None:
    leaves: list[bool] = []
    exec(ANEW.format(model=MAKES[make][0], make=MAKES[make][1], rounds=rounds) + COUNTED, {"leaves": leaves})
    received = sum(leaves)
    found = passes_of(*MAKES[make], rounds)
    assert (found.received, found.unreached) == (received, len(leaves) - received)


@pytest.mark.parametrize("make", MAKES)
def test_the_leaves_of_early_rounds_are_told_why_as_those_of_the_last(make: str) -> None:
    missed = [row for row in passes_of(*MAKES[make], 25).gradients if row.outcome == "missing"]
    assert {row.why for row in missed} == {"cut at line 8 by Tensor.detach"}
    assert not any("unnamed" in row.name for row in missed)


def test_what_is_not_looked_into_is_said_to_be_of_earlier_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradients, "PASSES_OF_ANEW", 10)
    why = {row.why for row in passes_of(*MAKES["by its class"], 25).gradients if row.outcome == "missing"}
    too_early = "not looked into: only the last 10 passes of this line are, and it was in earlier ones"
    assert why == {"cut at line 8 by Tensor.detach", too_early}


def test_leaves_of_several_rounds_have_the_name_that_each_round_gave_them() -> None:
    source = ANEW.format(model="None", make=MAKES["by its class"][1], rounds=6)
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "leaf-unreached"]
    assert answer.text.startswith("Backward gave model.weight and model.bias no gradient: cut at line 8")
