"""Weights that are overwritten after each step, and the many programs that write weights and mean it."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

HEAD = """
import copy, torch
net, x = torch.nn.Linear(2, 1), torch.ones(3, 2)
other = copy.deepcopy(net).requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
pairs = list(zip(net.parameters(), other.parameters()))
def step():
    optimizer.zero_grad()
    net(x).sum().backward()
    optimizer.step()
@torch.no_grad()
def average():
    for p, q in pairs:
        q.mul_(0.9).add_(p, alpha=0.1)
@torch.no_grad()
def pulled(source=other):
    for p, q in zip(net.parameters(), source.parameters()): p.mul_(0.9).add_(q, alpha=0.1)
@torch.no_grad()
def copied():
    for p, q in pairs:
        p.copy_(q)
def loaded():
    net.load_state_dict(other.state_dict())
@torch.no_grad()
def synced():
    for p, q in pairs:
        q.copy_(p)
"""


def said(rounds: str) -> list[int]:
    answers = build(recorded(f"{HEAD}for i in range(8): {rounds}")).answers
    return [cause.line for one in answers if one.code == "weights-overwritten" for cause in one.causes]


@pytest.mark.parametrize(
    ("rounds", "line"),
    [
        ("step(); average(); net.load_state_dict(other.state_dict())", 27),
        ("step(); average(); copied()", 27),
        ("step(); average(); loaded()", 27),
        ("loaded(); step()", 27),
        ("step(); copied()", 27),
        ("step(); pulled()", 16),
    ],
)
def test_the_copy_or_what_asks_for_it_is_the_cause(rounds: str, line: int) -> None:
    assert said(rounds) == [line]


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param("step(); average()", id="an average that is kept apart"),
        pytest.param("step(); step(); average(); copied()", id="an average of two steps (lookahead)"),
        pytest.param("step(); synced(); copied()", id="a copy there and back"),
        pytest.param("average() if i == 3 else None; step(); copied() if i == 5 else None", id="once"),
        pytest.param("step(); average(); pulled()", id="two that are moved towards each other"),
        pytest.param("step(); pulled() if i == 3 else None", id="moved once"),
        pytest.param("step(); net.weight.data.clamp_(-1, 1)", id="weights that are clipped"),
        pytest.param(
            "kept = copy.deepcopy(net.state_dict()); net.weight.data.add_(0.1); net.load_state_dict(kept); step()",
            id="weights that are disturbed and restored",
        ),
    ],
)
def test_other_writes_are_meant(rounds: str) -> None:
    assert said(rounds) == []


TARGET = """
import copy, torch
from torch import nn
def made(): return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
def moved(source, to):
    with torch.no_grad():
        for p, q in zip(source.parameters(), to.parameters()): q.data.copy_(0.9 * q.data + 0.1 * p.data)
def followed(source, to):
    for p, q in zip(source.parameters(), to.parameters()): q.data.mul_(0.9).add_(0.1 * p.data)
def mixed(source, to):
    own, others = to.state_dict(), source.state_dict()
    to.load_state_dict({name: 0.9 * own[name] + 0.1 * others[name] for name in own})
net, target = made(), made()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(20):
    x = torch.randn(8, 4)
    with torch.no_grad(): goal = x[:, :1] + 0.9 * target(x)
    loss = (net(x) - goal).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    UPDATE
with torch.no_grad(): made()(x), target(x)
"""


def said_of_targets(update: str, source: str = TARGET) -> list[int]:
    answers = build(recorded(source.replace("UPDATE", update))).answers
    return [cause.line for one in answers if one.code == "weights-overwritten" for cause in one.causes]


@pytest.mark.parametrize(
    ("update", "lines"),
    [
        ("moved(target, net)", [21, 6]),
        ("followed(target, net)", [21, 8]),
        ("if step % 4 == 3: mixed(target, net)", [21, 11]),
        ("if step % 4 == 3: net.load_state_dict(target.state_dict())", [21]),
    ],
)
def test_a_network_that_is_written_from_its_target(update: str, lines: list[int]) -> None:
    assert said_of_targets(update) == lines


@pytest.mark.parametrize(
    "update",
    [
        pytest.param("moved(net, target)", id="the right way"),
        pytest.param("moved(net, target); moved(target, net)", id="both ways"),
        pytest.param("if step == 5: net.load_state_dict(target.state_dict())", id="once"),
    ],
)
def test_targets_that_follow(update: str) -> None:
    assert said_of_targets(update) == []


def test_a_network_that_is_pulled_to_one_that_gives_no_targets() -> None:
    source = TARGET.replace("0.9 * target(x)", "x[:, 1:2]")
    assert said_of_targets("if step % 4 == 3: moved(target, net)", source) == []
