"""Parameters that are put on others' memory to bring them up to date: found where it is done now and then."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SYNCED = """import torch
from torch import nn
online, target = nn.Linear(3, 1), nn.Linear(3, 1)
target.requires_grad_(False)
opt = torch.optim.Adam(online.parameters())
def sync(into, source):
    for mine, theirs in zip(into.parameters(), source.parameters()):
        mine.data = theirs.data  # puts
sync(target, online)
for step in range(9):
    loss = (online(torch.ones(4, 3)) - target(torch.ones(4, 3)) - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 3 == 2:
        sync(target, online)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for answer in answers if answer.code == "memory-assigned" for cause in answer.causes]


@pytest.mark.parametrize("value", ["theirs.data", "theirs.detach()", "theirs"])
def test_the_assignment_is_the_cause(value: str) -> None:
    source = SYNCED.replace("mine.data = theirs.data", f"mine.data = {value}")
    assert lines(source) == [line_of(source, "# puts")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mine.data = theirs.data", "mine.data.copy_(theirs.data)"),
        ("mine.data = theirs.data", "mine.data = theirs.data.clone()"),
        ("if step % 3 == 2:", "if True:"),  # one with the other at each step: tied on purpose
    ],
)
def test_copies_and_what_is_tied_are_none(old: str, new: str) -> None:
    assert lines(SYNCED.replace(old, new)) == []


ROUNDS = """import torch
from torch import nn
server = nn.Linear(3, 1)
clients = [nn.Linear(3, 1) for _ in range(3)]
def begin(client, state):
    for name, mine in client.named_parameters():
        mine.data = state[name]  # puts
for rnd in range(3):
    results = []
    for client in clients:
        begin(client, server.state_dict())
        opt = torch.optim.SGD(client.parameters(), lr=0.1)
        for step in range(2):
            opt.zero_grad()
            (client(torch.rand(4, 3)) - 1).pow(2).mean().backward()
            opt.step()
        results.append({name: value.clone() for name, value in client.state_dict().items()})
    server.load_state_dict({name: sum(one[name] for one in results) / 3 for name in results[0]})
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mine.data = state[name]", "mine.data = state[name]"),
        ("mine.data = state[name]", "mine.data = dict(server.named_parameters())[name].data"),
        ("mine.data = state[name]", "mine.data = state[name].to('cpu')"),
        ("    for name, mine", "    torch.set_grad_enabled(False)\n    for name, mine"),
    ],
)
def test_clients_that_are_stepped_on_the_memory_of_their_server(old: str, new: str) -> None:
    source = ROUNDS.replace(old, new)
    if "grad_enabled" in new:  # (set_ is refused for a leaf that requires grad, but under no_grad)
        source = source.replace("mine.data = state[name]", "mine.set_(state[name])")
        source = source.replace("        opt = ", "        torch.set_grad_enabled(True)\n        opt = ")
    assert lines(source) == [line_of(source, "# puts")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mine.data = state[name]", "mine.data = state[name].clone()"),
        ("mine.data = state[name]", "mine.data.copy_(state[name])"),
        ("server.state_dict()", "{name: value.clone() for name, value in server.state_dict().items()}"),
        # what is trained in the place of a part of a larger network
        ("    server.load_state_dict(", "    assert ("),
        # nothing is stepped
        ("opt.step()", "pass"),
    ],
)
def test_what_starts_from_copies_or_is_to_train_the_other_is_none(old: str, new: str) -> None:
    assert old in ROUNDS
    assert lines(ROUNDS.replace(old, new)) == []


ONCE = """import torch
from torch import nn
def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
online, follower = net(), net()
opt = torch.optim.Adam(online.parameters())
def put():
    for mine, theirs in zip(follower.parameters(), online.parameters()):
        mine.data = theirs.data  # puts
for step in range(6):
    with torch.no_grad():
        goal = follower(torch.ones(4, 3)) + 1
    loss = (online(torch.ones(4, 3)) - goal).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step == 2:
        put()
"""
AT_FIRST = ONCE.replace("    if step == 2:\n        put()\n", "").replace("for step", "put()\nfor step")


@pytest.mark.parametrize(
    "source",
    [
        ONCE,
        ONCE.replace("theirs.data  #", "theirs.detach()  #"),
        AT_FIRST.replace("follower", "target_net"),
        SYNCED.replace("if step % 3 == 2:", "if False:"),
        AT_FIRST.replace("follower", "opponents"),
    ],
)
def test_one_time_is_enough_where_the_other_was_at_work_or_is_to_stay_behind(source: str) -> None:
    assert lines(source) == [line_of(source, "# puts")]


@pytest.mark.parametrize(
    "source",
    [
        ONCE.replace("mine.data = theirs.data", "mine.data.copy_(theirs.data)"),
        ONCE.replace("if step == 2:", "if step == 4:"),  # one step came after
        AT_FIRST,  # two that are one from the start
        AT_FIRST.replace("follower", "target").replace("mine.data = theirs.data", "mine.data = theirs.data.clone()"),
    ],
)
def test_what_shares_from_the_start_or_is_copied_is_none(source: str) -> None:
    assert lines(source) == []


EVALUATED = """import torch
from torch import nn
model, shown = nn.Linear(3, 1), nn.Linear(3, 1)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(4):
    for step in range(3):
        opt.zero_grad()
        model(torch.ones(2, 3)).sum().backward()
        opt.step()
        seen = None  # in the epoch
    for mine, theirs in zip(shown.parameters(), model.parameters()):
        mine.data = theirs.data
    with torch.no_grad():
        print(shown(torch.ones(1, 3)))
"""


def test_what_is_put_there_to_be_evaluated_before_the_next_step_is_none() -> None:
    assert lines(EVALUATED) == []
    assert lines(EVALUATED.replace("seen = None  # in", "seen = shown(torch.ones(1, 3))  # in"))
