"""Weights that are copied onto, or mixed with, themselves where another model's were meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

DQN = """
import copy, torch
from torch import nn
def sync(to, of):
    to.load_state_dict(of.state_dict())
def soft(to, of):
    for p, q in zip(to.parameters(), of.parameters()):
        p.data.copy_(0.9 * p.data + 0.1 * q.data)
online = nn.Linear(3, 1)
target = copy.deepcopy(online)
optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    with torch.no_grad():
        aim = target(torch.ones(2, 3)) + 1
    (online(torch.ones(2, 3)) - aim).pow(2).mean().backward()
    optimizer.step()
    {}
"""
LOOP = "with torch.no_grad():\n        for p, q in zip({}.parameters(), target.parameters()):  # here\n            {}"


def found(body: str) -> tuple[list[Answer], str]:
    source = DQN.replace("{}", body)
    return [one for one in build(recorded(source)).answers if one.code == "copied-onto-itself"], source


@pytest.mark.parametrize(
    "body",
    [
        "target.load_state_dict(target.state_dict())  # here",
        "online.load_state_dict(online.state_dict())  # here",
        "sync(target, target)  # here",
        "soft(target, target)  # here",
        "soft(to=target, of=target)  # here",
        LOOP.format("target", "q.lerp_(p, 0.1)"),
        LOOP.format("target", "q.copy_(0.9 * q + 0.1 * p)"),
        LOOP.format("online", "q.data.copy_(q.data)").replace("  # here", "") + "  # here",
    ],
)
def test_the_line_that_gives_one_model_for_two_is_the_cause(body: str) -> None:
    (answer,), source = found(body)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# here")]
    assert answer.text.startswith(f"Line {line_of(source, '# here')}: ")
    assert "target.weight" in answer.text or "online.weight" in answer.text


@pytest.mark.parametrize(
    "body",
    [
        "target.load_state_dict(online.state_dict())",
        "target.load_state_dict(copy.deepcopy(target.state_dict()))",
        "sync(target, online)",
        "soft(target, online)",
        LOOP.format("online", "q.lerp_(p, 0.1)"),
        LOOP.format("online", "q.copy_(0.9 * q + 0.1 * p)"),
        LOOP.format("online", "q.mul_(0.9).add_(q, alpha=0.1)"),
        LOOP.format("online", "q.add_(q, alpha=-0.01)"),
        LOOP.format("online", "q.copy_(0.9 * q)"),
        LOOP.format("online", "q[:, 1:].copy_(q[:, :-1].clone()) if q.dim() > 1 else None"),
        "if step == 0: target.load_state_dict(target.state_dict())",
    ],
)
def test_what_takes_from_another_or_changes_itself_on_purpose(body: str) -> None:
    assert found(body)[0] == []


def test_a_statement_that_shares_a_part_with_the_other_model() -> None:
    body = "target.weight = online.weight\n    soft(target, online)"
    assert found(body)[0] == []
