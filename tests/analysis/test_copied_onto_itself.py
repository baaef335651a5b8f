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


AVERAGE = """
import copy, torch
from torch import nn
net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
average = copy.deepcopy(net).requires_grad_(False)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
@torch.no_grad()
def update(ma, model):
    own, of = dict(ma.named_parameters()), {walked}
    for name, p in model.named_parameters():
        own[name].lerp_(p, 0.1)
    {loop}
for step in range(4):
    optimizer.zero_grad()
    net(torch.randn(5, 3)).pow(2).mean().backward()
    optimizer.step()
    update(average, net)
with torch.no_grad():
    average(torch.randn(5, 3))
"""
BY_ITEM = """for name, b in {}.named_buffers():  # here
        if b.dtype.is_floating_point:
            of[name].lerp_(b, 0.1)
        else:
            of[name].copy_(b)"""
BY_NAME = """for name, b in {}.state_dict().items():  # here
        if b.is_floating_point() and "running" in name:
            mine = of[name]
            mine.mul_(0.9).add_(b, alpha=0.1)"""
BY_CALL = """for name, b in {}.named_buffers():  # here
        ma.get_buffer(name).copy_(b)"""
BY_KEYS = """mine, other = dict(ma.named_buffers()), dict({}.named_buffers())  # here
    for name in mine:
        mine[name].copy_(other[name])"""
BUFFERS, STATE = "dict(ma.named_buffers())", "ma.state_dict()"


@pytest.mark.parametrize(
    ("walked", "loop"),
    [(BUFFERS, BY_ITEM), (STATE, BY_ITEM), (STATE, BY_NAME), (BUFFERS, BY_CALL), (BUFFERS, BY_KEYS)],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_loop_that_walks_the_average_itself(walked: str, loop: str, *, own: bool) -> None:
    source = AVERAGE.replace("{walked}", walked).replace("{loop}", loop.format("ma" if own else "model"))
    answers = [
        one for one in build(recorded(source)).answers if one.code in ("copied-onto-itself", "one-tensor-two-names")
    ]
    assert [[cause.line for cause in one.causes] for one in answers] == [[line_of(source, "# here")]] * own
    assert not own or "running_mean" in answers[0].text or "mine is mixed with itself" in answers[0].text


@pytest.mark.parametrize(
    "loop",
    [
        "for name, b in ma.named_buffers():\n        b.copy_(b)",
        "for name, b in ma.named_buffers():\n        b.mul_(1)",
        "for name, b in ma.named_buffers():\n        of[name].copy_(model.get_buffer(name))",
        "for name, b in model.named_buffers():\n        of[name].copy_(b)",
    ],
)
def test_states_that_are_not_taken_for_two(loop: str) -> None:
    source = AVERAGE.replace("{walked}", BUFFERS).replace("{loop}", loop)
    answers = [one for one in build(recorded(source)).answers if one.code == "copied-onto-itself"]
    assert answers == []
