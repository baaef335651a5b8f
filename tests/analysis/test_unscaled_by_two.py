"""A GradScaler that divides one gradient twice, since it is given a wrapper and the optimizer in it."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
net = torch.nn.Linear(3, 1)
optimizer = torch.optim.{optimizer}(net.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, enabled={enabled})

class Wrapped:
    def __init__(self, optimizer):
        self.optimizer = optimizer
    @property
    def param_groups(self):
        return self.optimizer.param_groups
    def step(self, *args):
        return self.optimizer.step(*args)

class Inherited(torch.optim.Optimizer):
    def __init__(self, optimizer):
        self.optimizer, self.param_groups = optimizer, optimizer.param_groups
    def step(self, *args):
        return self.optimizer.step(*args)

outer = {wrapper}(optimizer)
for _ in range(5):
    outer.optimizer.zero_grad()
    scaler.scale(net(torch.rand(5, 3)).pow(2).mean()).backward()
    scaler.unscale_({first})  # first
    {between}
    {steps}  # again
    scaler.update()
"""
USUAL = {
    "optimizer": "SGD",
    "enabled": "True",
    "wrapper": "Wrapped",
    "first": "outer",
    "between": "torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)",
    "steps": "scaler.step(optimizer)",
}


def told(**parts: str) -> tuple[list[list[int]], str, str]:
    source = PROGRAM.format(**{**USUAL, **parts})
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok", recording.info.outcome
    answers = [one for one in build(recording).answers if one.code == "gradient-scaled-twice"]
    return [[cause.line for cause in one.causes] for one in answers], " ".join(one.text for one in answers), source


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"wrapper": "Inherited"},
        {"optimizer": "Adam", "between": "pass"},
        {"first": "optimizer", "steps": "scaler.step(outer)"},
        {"steps": "scaler.unscale_(optimizer); optimizer.step()"},
    ],
)
def test_the_line_that_gives_the_other_object_is_told(parts: dict[str, str]) -> None:
    causes, text, source = told(**parts)
    lines = [line_of(source, "# first"), line_of(source, "# again")]
    assert causes == [lines]
    strange = lines[parts.get("first") == "optimizer"]
    assert f"to that of line {strange} itself no parameters were given" in text and "(5 times)" in text


@pytest.mark.parametrize(
    "parts",
    [
        {"first": "optimizer"},
        {"steps": "scaler.step(outer)"},
        {"steps": "scaler.step(outer.optimizer)", "first": "outer.optimizer"},
        {"enabled": "False"},
        {"between": "[p.grad.mul_(scaler.get_scale()) for p in net.parameters()]"},
        {"between": "scaler.scale(net(torch.ones(5, 3)).sum()).backward()"},
        {"between": "optimizer.zero_grad(); scaler.scale(net(torch.ones(5, 3)).sum()).backward()"},
        {"between": "optimizer.zero_grad(set_to_none=False)"},
    ],
)
def test_what_divides_each_gradient_once_is_healthy(parts: dict[str, str]) -> None:
    assert told(**parts)[0] == []


def test_two_optimizers_of_the_same_parameters_are_said_to_be_two() -> None:
    causes, text, _ = told(first="torch.optim.SGD(net.parameters(), lr=0.1)")
    assert len(causes) == 1 and "both hold them" in text
