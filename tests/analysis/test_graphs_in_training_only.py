"""Gradients with a graph in training mode only (``create_graph=self.training``), of a model that eval() left."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

FORCES = """
import torch
from torch import nn
class Forces(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    def forward(self, x):
        x.requires_grad_(True)
        energy = self.energy(x).sum()
        return energy, torch.autograd.grad(energy, x, {asked})[0]
model = Forces()
{before}
for epoch in range(3):
    {first}
    energy, force = model(torch.rand(5, 3))
    loss = {loss}
    loss.backward()
    model.eval()  # left
"""
KEPT = "create_graph=self.training, retain_graph=True"
BOTH = "(energy - 1) ** 2 + 0.1 * force.pow(2).mean()"


def found(
    code: str, asked: str, loss: str, before: str = "pass", first: str = "pass"
) -> tuple[list[int], list[int], int]:
    source = FORCES.format(asked=asked, before=before, first=first, loss=loss)
    answers = [one for one in build(recorded(source)).answers if one.code == code]
    asks = line_of(source, "autograd.grad")
    return [cause.line for one in answers for cause in one.causes], [line_of(source, "# left")], asks


@pytest.mark.parametrize(
    ("code", "asked", "loss"),
    [
        ("term-without-gradient", KEPT, BOTH),
        ("backward-no-grad", KEPT, "force.pow(2).mean()"),
        ("graph-used-twice", "create_graph=self.training", BOTH),
    ],
)
def test_the_call_of_eval_is_the_cause(code: str, asked: str, loss: str) -> None:
    lines, expected, _ = found(code, asked, loss)
    assert lines[:1] == expected


@pytest.mark.parametrize("code", ["term-without-gradient", "backward-no-grad", "graph-used-twice"])
def test_a_model_that_trains_again_is_silent(code: str) -> None:
    assert found(code, KEPT, BOTH, first="model.train()")[0] == []


def test_where_the_text_asks_for_no_graph_its_line_is_the_cause() -> None:
    lines, _, asks = found("term-without-gradient", "retain_graph=True", BOTH)
    assert lines == [asks]


def test_an_evaluation_of_another_model_is_none() -> None:
    source = FORCES.format(
        asked=KEPT.replace("self.training", "self.energy[1].training"), before="", first="", loss=BOTH
    )
    other = source.replace("model.eval()  # left", "nn.Linear(2, 2).eval()").replace(
        "for epoch", "model.energy[1].training = False\nfor epoch"
    )
    [answer] = [one for one in build(recorded(other)).answers if one.code == "term-without-gradient"]
    assert [cause.line for cause in answer.causes] == [line_of(other, "autograd.grad")]
