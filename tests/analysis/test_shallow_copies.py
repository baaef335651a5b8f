"""Copies that ``copy.copy`` made of modules: trained in turn, kept as the best, or sharing weights as was meant."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.recording.rows import EventKind
from tests.analysis.building import line_of, recorded

HEAD = """
import copy
import torch
x = torch.ones(4, 3)
def fit(net, optimizer):
    for step in range(2):
        optimizer.zero_grad()
        net(x).pow(2).sum().backward()
        optimizer.step()
class Server:
    def __init__(self):
        self.net = torch.nn.Linear(3, 1)
server = Server()
"""

ROUNDS = """
states = []
for client in range(3):
    local = copy.copy(server.net)  # here
    fit(local, torch.optim.SGD(local.parameters(), lr=0.1))
    states.append(local.state_dict())
server.net.load_state_dict({k: torch.stack([s[k] for s in states]).mean(0) for k in states[0]})
"""

MEMBERS = """
members = [copy.copy(server.net) for n in range(3)]  # here
for member in members:
    fit(member, torch.optim.Adam(member.parameters()))
"""

BEST = """
optimizer, score, best = torch.optim.SGD(server.net.parameters(), lr=0.1), 0, None
for epoch in range(2):
    fit(server.net, optimizer)
    score, best = epoch, copy.copy(server.net)  # here
"""


def lines(body: str, code: str = "one-tensor-two-names") -> list[int]:
    answers = build(recorded(HEAD + body)).answers
    return [cause.line for one in answers if one.code == code for cause in one.causes]


@pytest.mark.parametrize("body", [ROUNDS, MEMBERS, BEST])
def test_the_line_of_the_copy_is_the_one_cause(body: str) -> None:
    assert lines(body) == [line_of(HEAD + body, "# here")]
    assert lines(body, "snapshot-shares-memory") == []


@pytest.mark.parametrize(
    ("body", "old", "new"),
    [
        (ROUNDS, "copy.copy", "copy.deepcopy"),
        (ROUNDS, "local.parameters()", "server.net.parameters()"),
        (ROUNDS, "range(3)", "range(1)"),
        (MEMBERS, "copy.copy", "copy.deepcopy"),
        (MEMBERS, "range(3)", "range(1)"),
        (BEST, "score, best =", "score, view ="),
        (BEST, "copy.copy(server.net)", "copy.copy(x)"),
        (BEST, "epoch in range(2)", "epoch in range(1)"),
    ],
)
def test_a_copy_of_its_own_or_one_that_may_share_is_none(body: str, old: str, new: str) -> None:
    assert old in body
    assert lines(body.replace(old, new)) == []


def test_a_snapshot_of_one_copy_is_the_cause_where_its_own_training_goes_on() -> None:
    again = """
    before = local.state_dict()
    fit(local, torch.optim.SGD(local.parameters(), lr=0.1))
    print(sum((before[k] - v).abs().sum() for k, v in local.state_dict().items()))
    states.append"""
    body = ROUNDS.replace("\n    states.append", again)
    assert line_of(HEAD + body, "before = ") in lines(body, "snapshot-shares-memory")


def test_copies_are_noted_and_what_deepcopy_or_pickle_makes_is_not() -> None:
    source = HEAD + "import pickle\ncopy.deepcopy(server.net)\npickle.loads(pickle.dumps(server.net))\n" + MEMBERS
    recording = recorded(source)
    events = [event for event in recording.events if event.kind == EventKind.SHALLOW_COPY]
    assert [recording.spans[event.span].line for event in events] == [line_of(source, "# here")] * 3
    assert len({event.subject for event in events}) == 1
