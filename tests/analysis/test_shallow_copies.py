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

BRANCH = """
class Branch(torch.nn.Linear):
    def twin(self):
        return copy.copy(self)  # here
online = Branch(3, 1)
branch = online.twin()
optimizer = torch.optim.SGD(online.parameters(), lr=0.1)
for round in range(2):
    fit(online, optimizer)
    with torch.no_grad():
        for slow, fast in zip(branch.parameters(), online.parameters()):
            slow.lerp_(fast, 0.01)  # mixed
"""

LOADED = """
def second(net):
    other = copy.copy(net)  # here
    return other.eval()
online = torch.nn.Linear(3, 1)
slower = second(online)
fit(online, torch.optim.SGD(online.parameters(), lr=0.1))
slower.load_state_dict(online.state_dict())
"""

GIVEN = """
class Average:
    def __init__(self, net):
        self.net = net
    @torch.no_grad()
    def follow(self, net):
        for s, p in zip(self.net.parameters(), net.parameters()):
            s.data.mul_(0.9)
            s.data.add_(0.1 * p.data)
average = Average(copy.copy(server.net))  # here
fit(server.net, torch.optim.SGD(server.net.parameters(), lr=0.1))
average.follow(server.net)
"""

RETURNED = """
def cloned(net):
    other = copy.copy(net)  # here
    return other
teacher = cloned(server.net)
fit(server.net, torch.optim.SGD(server.net.parameters(), lr=0.1))
print(teacher(x).sum())
"""

OWN = """
def cloned(net):
    new = copy.copy(net)
    new._parameters = {name: torch.nn.Parameter(p.detach().clone()) for name, p in net._parameters.items()}
    return new
target = cloned(server.net)
fit(server.net, torch.optim.SGD(server.net.parameters(), lr=0.1))
print(target(x).sum())
"""


def lines(body: str, code: str = "one-tensor-two-names") -> list[int]:
    answers = build(recorded(HEAD + body)).answers
    return [cause.line for one in answers if one.code == code for cause in one.causes]


@pytest.mark.parametrize("body", [ROUNDS, MEMBERS, BEST, BRANCH, LOADED, GIVEN, RETURNED])
def test_the_line_of_the_copy_is_the_one_cause(body: str) -> None:
    assert lines(body) == [line_of(HEAD + body, "# here")]
    assert lines(body, "snapshot-shares-memory") == []
    assert lines(body, "loaded-from-itself") == []


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
        (BRANCH, "copy.copy", "copy.deepcopy"),
        (BRANCH, "slow.lerp_(fast, 0.01)", "slow.mul_(0.9).add_(slow, alpha=0.1)"),
        (LOADED, "copy.copy", "copy.deepcopy"),
        (LOADED, "slower.load_state_dict(online", "online.load_state_dict(online"),
        (GIVEN, "copy.copy", "copy.deepcopy"),
        (GIVEN, "average.follow(server.net)", "average.follow(torch.nn.Linear(3, 1))"),
        (RETURNED, "copy.copy", "copy.deepcopy"),
        (RETURNED, "teacher", "view"),
        (RETURNED, "return other", "return net"),
    ],
)
def test_a_copy_of_its_own_or_one_that_may_share_is_none(body: str, old: str, new: str) -> None:
    assert old in body
    assert lines(body.replace(old, new)) == []


def test_a_copy_that_was_given_parameters_of_its_own_is_none() -> None:
    assert lines(OWN) == []
    shared = OWN.replace("p.detach().clone()", "p").replace("torch.nn.Parameter(p)", "p")
    assert lines(shared) == [line_of(HEAD + shared, "new = ")]


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
