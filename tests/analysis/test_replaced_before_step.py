"""Parameters that are replaced between the backward pass and the step."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
class Points:
    def __init__(self):
        self.at, self.size = nn.Parameter(torch.rand(4, 2)), nn.Parameter(torch.rand(4, 1))
        self.optimizer = torch.optim.Adam([{{"params": [self.at]}}, {{"params": [self.size]}}], lr=0.01)
    def replace(self, group, new):
        old = group["params"][0]
        state = self.optimizer.state.pop(old, None)
        if state is not None:
            self.optimizer.state[new] = {{"step": state["step"],
                **{{key: torch.cat([state[key], state[key][:1]]) for key in ("exp_avg", "exp_avg_sq")}}}}
        group["params"][0] = new
        {handed}
        return new
    def grow(self):
        groups = self.optimizer.param_groups
        self.at = self.replace(groups[0], nn.Parameter(torch.cat([self.at.data, self.at.data[:1]])))
        {second}
points = Points()
for iteration in range(9):
    loss = (points.at.pow(2).sum() + points.size.pow(2).sum())
    loss.backward()
    {before}
    if iteration % 3 == 2:
        points.grow()
    points.optimizer.step()  # here
    points.optimizer.zero_grad()
"""
BOTH = "self.size = self.replace(groups[1], nn.Parameter(torch.cat([self.size.data, self.size.data[:1]])))"


def said(before: str = "pass", handed: str = "pass", second: str = BOTH) -> tuple[str, list[Answer]]:
    source = PROGRAM.format(before=before, handed=handed, second=second)
    return source, [one for one in build(recorded(source)).answers if one.code == "replaced-before-step"]


@pytest.mark.parametrize("second", [BOTH, "pass"])
def test_the_step_comes_first_in_what_is_said(second: str) -> None:
    source, (answer,) = said(second=second)
    assert answer.causes[0].line == line_of(source, "# here")
    assert "points.at" in answer.text


@pytest.mark.parametrize(
    ("before", "handed"),
    [
        ("points.optimizer.step(); points.optimizer.zero_grad()", "pass"),
        ("if iteration % 3 == 2: points.optimizer.zero_grad()", "pass"),
        ("pass", "new.grad = torch.cat([old.grad, old.grad[:1]])"),
    ],
)
def test_gradients_that_are_applied_cleared_or_handed_on_are_not_missed(before: str, handed: str) -> None:
    assert said(before, handed)[1] == []


def test_models_that_follow_one_another_are_no_replacement() -> None:
    source = """
        import torch
        from torch import nn
        for fold in range(4):
            model = nn.Linear(3, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.ones(2, 3)).sum().backward()
                optimizer.step()
            model(torch.ones(2, 3)).sum().backward()
    """
    assert not [one for one in build(recorded(source)).answers if one.code == "replaced-before-step"]


SEVERAL = """
import torch
from torch import nn
names = ("at", "size", "color")
points = nn.Module()
for name in names:
    setattr(points, name, nn.Parameter(torch.rand(4, 2)))
optimizers = {name: torch.optim.Adam([getattr(points, name)], lr=0.01) for name in names}
def grow():
    for name, optimizer in optimizers.items():
        old = getattr(points, name)
        new = nn.Parameter(torch.cat([old.data, old.data[:1]]))
        state = optimizer.state.pop(old)
        optimizer.state[new] = {key: value if value.dim() == 0 else torch.cat([value, value[:1]])
                                for key, value in state.items()}
        optimizer.param_groups[0]["params"] = [new]
        setattr(points, name, new)
for iteration in range(9):
    (points.at * points.size + points.color).pow(2).sum().backward()
    BEFORE
    for optimizer in optimizers.values():
        optimizer.step()  # here
        optimizer.zero_grad()
    AFTER
"""


def test_optimizers_that_one_line_steps_in_turn_are_told_together() -> None:
    source = SEVERAL.replace("BEFORE", "if iteration % 3 == 2: grow()").replace("AFTER", "pass")
    (answer,) = (one for one in build(recorded(source)).answers if one.code == "replaced-before-step")
    assert answer.causes[0].line == line_of(source, "# here")
    assert all(f"points.{name}" in answer.text for name in ("at", "size", "color"))


def test_optimizers_that_step_before_are_fine() -> None:
    source = SEVERAL.replace("AFTER", "if iteration % 3 == 2: grow()").replace("BEFORE", "pass")
    assert not [one for one in build(recorded(source)).answers if one.code == "replaced-before-step"]
