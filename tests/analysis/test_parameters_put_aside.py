"""Parameters whose name stands for what was computed from them, while their optimizer goes on."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(0.5))
        self.body = torch.nn.Linear(3, 1)
    def forward(self, x):
        return self.scale.exp() * self.body(x)
    def keep(self):
        BOUND
model = Model()
optimizer = torch.optim.Adam(model.parameters(), 0.01)
for step in range(6):
    loss = model(torch.randn(4, 3)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    model.keep()
"""


def lines(bound: str) -> list[int]:
    answers = build(recorded(SOURCE.replace("BOUND", bound))).answers
    return [cause.line for one in answers if one.code == "parameter-replaced" for cause in one.causes]


def test_a_parameter_that_is_wrapped_anew_in_each_step_is_named_where_it_is():
    assert lines("self.scale = torch.nn.Parameter(self.scale.detach().clamp(0, 1))") == [10]


def test_gradients_that_are_set_to_none_by_hand_are_no_use_of_it():
    by_hand = """for group in optimizer.param_groups:
        for one in group["params"]:
            one.grad = None"""
    bound = "self.scale = torch.nn.Parameter(self.scale.detach().clamp(0, 1))"
    source = SOURCE.replace("optimizer.zero_grad()", by_hand)
    answers = build(recorded(source.replace("BOUND", bound))).answers
    assert [cause.line for one in answers if one.code == "parameter-replaced" for cause in one.causes] == [10]


@pytest.mark.parametrize(
    "bound",
    [
        "self.scale.data.clamp_(0, 1)",
        "self.shown = self.scale.detach().clamp(0, 1)",
        "self.scale.data = self.scale.data.clamp(0, 1)",
    ],
)
def test_a_parameter_that_is_written_or_read_is_fine(bound: str):
    assert lines(bound) == []


SET_BY_HAND = """\
import copy, torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(3):
    optimizer.zero_grad()
    for task in range(2):
        learner = copy.deepcopy(model)
        learner(torch.ones(3, 2)).sum().backward()
        for p, q in zip(model.parameters(), learner.parameters()):
            difference = (p - q).detach()
            p.grad = difference if p.grad is None else p.grad + difference
    optimizer.step()
"""


def test_a_gradient_that_is_asked_for_and_then_set_by_hand_surprises_nobody():
    assert [one.code for one in build(recorded(SET_BY_HAND)).answers if one.severity != "note"] == []


@pytest.mark.parametrize(("learns", "told"), [(True, [19]), (False, [])])
def test_a_parameter_of_a_frozen_copy_took_nothings_place(learns: bool, told: list[int]):
    bound = f"self.scale = torch.nn.Parameter(self.scale.detach().clamp(0, 1), requires_grad={learns})"
    source = SOURCE.replace("BOUND", "pass").replace("range(6)", "range(12)")
    source += f"    if step == 5: {bound.replace('self', 'model')}\n"
    answers = build(recorded(source)).answers
    assert [cause.line for one in answers if one.code == "parameter-replaced" for cause in one.causes] == told
