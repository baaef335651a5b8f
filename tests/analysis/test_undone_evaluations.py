"""An ``eval()`` that a helper undoes which training and evaluation share."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import recorded

PROGRAM = """
import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = [torch.randn(6, 4) for _ in range(3)]

def run(x, train):
    {mode}
    loss = model(x).pow(2).mean()
    if train:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()

def recalibrate():
    model.train()
    return [model(x).sum().item() for x in data]

def evaluate():
    model.eval()  # undone
    with torch.no_grad():
        return {evaluation}

for epoch in range(2):
    for x in data:
        {training}
    evaluate()
"""
USUAL = {"mode": "model.train()", "evaluation": "[run(x, False) for x in data]", "training": "run(x, True)"}


def found(**changed: str) -> list[Answer]:
    answers = build(recorded(PROGRAM.format(**{**USUAL, **changed}))).answers
    return [answer for answer in answers if answer.code == "evaluated-in-training"]


def test_the_train_of_the_helper_is_named_first() -> None:
    (answer,) = found()
    assert [cause.source.strip() for cause in answer.causes] == ["model.train()", "model.eval()  # undone"]
    assert answer.causes[0].function == "run"
    assert "6 calls of a dropout and 6 calls of a batch norm" in answer.text


@pytest.mark.parametrize(
    "changed",
    [
        {"mode": "model.train(train)"},
        {"mode": "model.zero_grad()"},
        {"evaluation": "[model(x).sum().item() for x in data]"},
        {"evaluation": "[model(x).sum().item() for x in data] + [run(x, False) for x in data]"},
        {"evaluation": "recalibrate()"},  # (that is what it is for: nothing trains after its train())
        {"training": "evaluate()"},  # (nothing is trained: what the helper is for is not known)
    ],
)
def test_what_differs_in_one_place_is_not_reported(changed: dict[str, str]) -> None:
    assert found(**changed) == []
