"""Updates that the parameters never get: names bound anew, gradients cleared before the step."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
w, b = torch.ones(3, requires_grad=True), torch.zeros(1, requires_grad=True)
kept = []
for step in range(3):
    loss = (torch.ones(3) @ w + b).sum()
    loss.backward()
    with torch.no_grad():
        for p in (w, b):
            {}
    w.grad = b.grad = None
"""

NAMED = """
import torch
w = torch.zeros(3, requires_grad=True)
for step in range(2):
    loss = (torch.ones(3) @ w - 1) ** 2
    loss.backward()
    with torch.no_grad():
        w = w - 0.1 * w.grad
"""

BETWEEN = """
import torch
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(layer.parameters())
for step in range(4):
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.zero_grad()
    optimizer.step()
print(layer.weight.detach())
"""

AVERAGED = """
import torch
net, kept = torch.nn.Linear(3, 1), torch.nn.Linear(3, 1).requires_grad_(False)
optimizer, seen = torch.optim.SGD(net.parameters(), lr=0.1), []
state = {{name: value.clone() for name, value in net.state_dict().items()}}
def mix(old, new):
    with torch.no_grad():
        old = old * 0.9 + new * 0.1
for step in range(3):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        {}
print(kept(torch.ones(2, 3)), state)
"""
PAIRS = "for old, new in zip(kept.parameters(), net.parameters()):"


def found(source: str, code: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == code]


def test_an_update_that_the_loops_variable_gets_is_lost() -> None:
    source = LOOP.format("p = p - 0.1 * p.grad")
    (answer,) = found(source, "update-lost")
    assert answer.causes[0].line == line_of(source, "p = p -")


@pytest.mark.parametrize(
    "update",
    [
        "p -= 0.1 * p.grad",
        "p = p - 0.1 * p.grad; kept.append(p.norm())",
        "p.copy_(p - 0.1 * p.grad)",
        "q = p - 0.1 * p.grad",
        "p = p - 0.1 * p.grad; w.mul_(0.9); b.mul_(0.9)",
    ],
)
def test_what_is_written_used_or_given_to_another_name_is_not(update: str) -> None:
    assert not found(LOOP.format(update), "update-lost")


def test_a_leaf_whose_name_is_bound_anew_under_no_grad_is_named_before_the_region() -> None:
    (answer,) = found(NAMED, "backward-no-grad")
    assert [cause.line for cause in answer.causes] == [line_of(NAMED, "w = w -"), line_of(NAMED, "with torch")]
    assert "gives the name w to a new tensor" in answer.text


def test_a_view_of_a_weight_that_is_taken_later_is_no_update() -> None:
    (answer,) = found(BETWEEN, "never-stepped")
    assert answer.causes[0].line == line_of(BETWEEN, "zero_grad()")


@pytest.mark.parametrize(
    ("update", "line"),
    [
        (f"{PAIRS} old = 0.9 * old + 0.1 * new", PAIRS),
        (f"{PAIRS} old = torch.lerp(old, new, 0.1)", PAIRS),
        (f"{PAIRS} mix(old, new)", "old = old"),
        ("for key, old in state.items(): old = old.lerp(net.state_dict()[key], 0.1)", "for key, old"),
    ],
)
def test_an_average_that_only_a_name_gets_is_lost(update: str, line: str) -> None:
    source = AVERAGED.format(update)
    (answer,) = found(source, "update-lost")
    assert answer.causes[0].line == line_of(source, line)


@pytest.mark.parametrize(
    "update",
    [
        f"{PAIRS} old.lerp_(new, 0.1)",
        f"{PAIRS} old.mul_(0.9).add_(new, alpha=0.1)",
        f"{PAIRS} old.copy_(0.9 * old + 0.1 * new)",
        f"{PAIRS} old.data = 0.9 * old + 0.1 * new",
        f"{PAIRS} old = 0.9 * old + 0.1 * new; seen.append(old.norm())",
        f"{PAIRS} mixed = 0.9 * old + 0.1 * new",
        "for key, old in state.items(): state[key] = old.lerp(net.state_dict()[key], 0.1)",
    ],
)
def test_an_average_that_is_written_or_looked_at_is_not(update: str) -> None:
    assert not found(AVERAGED.format(update), "update-lost")


CLAMPED = """
import torch
critic = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
for step in range(4):
    for p in critic.parameters():
        {}
    loss = critic(torch.ones(2, 3)).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_weights_that_an_optimizer_trains_are_not_changed_by_what_the_loops_name_is_given() -> None:
    source = CLAMPED.format("p = p.data.clamp(-0.01, 0.01)")
    (answer,) = [one for one in build(recorded(source)).answers if one.code == "update-lost"]
    assert answer.text.startswith(
        f"Line {line_of(source, 'clamp')}: p = … gives the loop's variable a new tensor (8 ti"
    )
    assert "critic.weight and critic.bias are not changed by it" in answer.text


@pytest.mark.parametrize(
    "statement",
    ["p.data.clamp_(-0.01, 0.01)", "p = p.data.clamp(-0.01, 0.01); print(p.max())", "p.data = p.data.clamp(-1, 1)"],
)
def test_weights_that_are_clamped_are_not_lost(statement: str) -> None:
    assert "update-lost" not in [one.code for one in build(recorded(CLAMPED.format(statement))).answers]
