"""States that ``load_state_dict(assign=True)`` made parameters of: what is said where they are used again, and not."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import copy, torch
from torch import nn
def train(net, steps=2):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).pow(2).sum().backward()
        optimizer.step()
def made(state, copies=False):
    with torch.device("meta"):
        net = nn.Linear(3, 1)
    net.load_state_dict(copy.deepcopy(state) if copies else state, assign=True)  # load
    return net
start = copy.deepcopy(nn.Linear(3, 1).state_dict())
"""


def found(source: str) -> list[list[int]]:
    answers = build(recorded(HEAD + source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "loaded-without-copy"]


@pytest.mark.parametrize(
    "source",
    [
        "for fold in range(3):\n    train(made(start))",
        "members = [made(start) for k in range(3)]\nfor member in members:\n    train(member)",
        "net = made(start)\ntrain(net)\nreference = made(start)\nprint(reference(torch.ones(1, 3)))",
        "net = made(start)\ntrain(net)\nprint((net.weight - start['weight']).norm())",
        "net = made(start)\ntrain(net)\nnet.load_state_dict(dict(start))",
    ],
)
def test_a_state_that_is_used_again_after_steps(source: str) -> None:
    assert found(source) == [[line_of(HEAD, "# load")]]


@pytest.mark.parametrize(
    "source",
    [
        "train(made(start))",
        "for fold in range(3):\n    train(made(start, copies=True))",
        "net = made(start)\ntrain(net)\nother = made(net.state_dict())\ntrain(other)",
        "net = nn.Linear(3, 1)\ntrain(net)\nother = made(net.state_dict())\ntrain(other)",
        "one, other = made(start), made(start)\nprint(one(torch.ones(1, 3)), other(torch.ones(1, 3)))",
        "teacher = made(start)\nnet = nn.Linear(3, 1)\ntrain(net)\nprint(teacher.weight - start['weight'])",
        "net = made(start)\ntrain(net)\nprint(start['weight'])",
        "for k in range(3):\n    net = nn.Linear(3, 1)\n    net.load_state_dict(start, assign=False)\n    train(net)",
    ],
)
def test_what_is_loaded_once_or_taken_on(source: str) -> None:
    assert not found(source)


PLAYERS = """
player, AT_WORK = nn.Linear(3, 2), nn.Linear(3, 2)
def promote():
    AT_WORK.load_state_dict(player.state_dict(), assign=True)  # promotes
FIRST
optimizer = torch.optim.SGD(player.parameters(), lr=0.1)
for game in range(6):
    with torch.no_grad():
        theirs = AT_WORK(torch.ones(4, 3)).argmax(1)
    loss = torch.nn.functional.cross_entropy(player(torch.ones(4, 3)), theirs)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    LATER
"""


@pytest.mark.parametrize(
    ("name", "first", "later", "is_found"),
    [
        ("opponent", "promote()", "", True),
        ("ema_net", "promote()", "if game == 2: promote()", True),
        ("opponent", "", "if game == 2: promote()", True),
        ("opponent", "", "if game == 4: promote()", False),  # one step came after
        ("sampler", "promote()", "", False),  # the same weights may be meant
        ("sampler", "promote()", "promote()", False),
    ],
)
def test_the_state_of_what_is_trained(name: str, first: str, later: str, is_found: bool) -> None:
    source = PLAYERS.replace("AT_WORK", name).replace("FIRST", first or "pass").replace("LATER", later or "pass")
    assert found(source) == [[line_of(HEAD + source, "# promotes")]] * is_found
    assert not found(source.replace("player.state_dict()", "copy.deepcopy(player.state_dict())"))
