"""``load_state_dict(assign=True)`` puts new parameters into a model: an optimizer made before goes on with the old."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

RESUMED = """
import copy, torch
from torch import nn
def fit(model, optimizer):
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.ones(3, 4)).pow(2).mean().backward()
        optimizer.step()
def load(model, state):
    model.load_state_dict(state, assign=True)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
fit(model, optimizer)
best = copy.deepcopy(model.state_dict())
fit(model, optimizer)
LOADS
fit(model, optimizer)
"""


def said(loads: str) -> list[Answer]:
    answers = build(recorded(RESUMED.replace("LOADS", loads))).answers
    return [one for one in answers if one.severity in ("problem", "warning")]


@pytest.mark.parametrize(
    ("loads", "at"),
    [
        ("model.load_state_dict(best, assign=True)", "model.load_state_dict(best"),
        ("load(model, best)", "model.load_state_dict(state"),
    ],
)
def test_the_load_that_assigns_is_the_cause(loads: str, at: str) -> None:
    (answer,) = said(loads)
    line = line_of(RESUMED.replace("LOADS", loads), at)
    assert answer.code == "never-stepped"
    assert [cause.line for cause in answer.causes] == [line, line_of(RESUMED, "optimizer = ")]
    assert f"line {line} (load_state_dict with assign=True) put new parameters into the model" in answer.text


@pytest.mark.parametrize(
    "loads",
    [
        "model.load_state_dict(best)",
        "model.load_state_dict(best, assign=False)",
        "load(model, best); optimizer = torch.optim.Adam(model.parameters())",
    ],
)
def test_a_load_that_leaves_the_optimizer_its_parameters_is_none(loads: str) -> None:
    assert not said(loads)


def test_a_copy_that_is_put_into_another_model_is_not_computed_from_what_the_first_optimizer_had() -> None:
    answers = said(
        "other = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))\n"
        "second = torch.optim.Adam(other.parameters())\n"
        "load(other, {key: value.clone() for key, value in model.state_dict().items()})\n"
        "fit(other, second)\nmodel, optimizer = other, second"
    )
    assert [one.code for one in answers] == ["never-stepped"]
