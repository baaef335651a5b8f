"""Values that are put back without a copy and trained on: found where they are used again as if they had stayed."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SETUP = """import copy
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

net = nn.Linear(3, 2)

def train(net, steps=3):
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    for step in range(steps):
        opt.zero_grad()
        net(torch.rand(4, 3)).pow(2).mean().backward()
        opt.step()

"""
VECTOR = (
    SETUP
    + """start = parameters_to_vector(net.parameters()).detach().clone()
for trial in range(2):
    vector_to_parameters(start, net.parameters())  # puts
    train(net)
"""
)
LISTED = (
    SETUP
    + """start = [p.detach().clone() for p in net.parameters()]
for trial in range(2):
    for p, values in zip(net.parameters(), start):
        p.data = values  # puts
    train(net)
"""
)
SLICED = (
    SETUP
    + """start = parameters_to_vector(net.parameters()).detach().clone()
def restore():
    done = 0
    for p in net.parameters():
        p.data = start[done : done + p.numel()].view_as(p)  # puts
        done += p.numel()
for trial in range(2):
    restore()
    train(net)
"""
)
COMPARED = (
    SETUP
    + """start = parameters_to_vector(net.parameters()).detach()
vector_to_parameters(start, net.parameters())  # puts
train(net)
print((parameters_to_vector(net.parameters()) - start).norm())
"""
)
LOOKAHEAD = (
    SETUP
    + """slow = [p.detach().clone() for p in net.parameters()]
for k in range(2):
    train(net)
    for p, values in zip(net.parameters(), slow):
        values += 0.5 * (p.data - values)
        p.data = values  # puts
"""
)
CLIENTS = (
    SETUP
    + """shared = parameters_to_vector(net.parameters()).detach()
results = []
for number in range(2):
    client = nn.Linear(3, 2)
    vector_to_parameters(shared, client.parameters())  # puts
    train(client)
    results.append(client)
"""
)
CHOSEN = (
    SETUP
    + """saved = []
for number in range(2):
    train(net)
    saved.append(parameters_to_vector(net.parameters()).detach())
for values in (saved[0], saved[1], saved[0]):
    vector_to_parameters(values, net.parameters())  # puts
    train(net)
"""
)


def told(source: str) -> list[tuple[str, int]]:
    answers = build(recorded(source)).answers
    return [(answer.code, cause.line) for answer in answers for cause in answer.causes if answer.severity != "note"]


@pytest.mark.parametrize("source", [VECTOR, LISTED, SLICED, COMPARED, LOOKAHEAD, CLIENTS, CHOSEN])
def test_the_line_that_puts_the_values_there_is_the_cause(source: str) -> None:
    assert told(source) == [("loaded-without-copy", line_of(source, "# puts"))]


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (VECTOR, "parameters(start,", "parameters(start.clone(),"),
        (LISTED, "p.data = values", "p.data = values.clone()"),
        (LISTED, "p.data = values", "p.data.copy_(values)"),
        (SLICED, ".view_as(p)", ".view_as(p).clone()"),
        (COMPARED, "parameters(start,", "parameters(start.clone(),"),
        (LOOKAHEAD, "p.data = values", "p.data.copy_(values)"),
        (CLIENTS, "parameters(shared,", "parameters(shared.clone(),"),
        (CHOSEN, "(values, net", "(values.clone(), net"),
        (VECTOR, "range(2)", "range(1)"),
        (COMPARED, "print((parameters_to_vector(net.parameters()) - start).norm())", "print(start.norm())"),
    ],
)
def test_copies_and_what_is_not_asked_for_again_are_none(source: str, old: str, new: str) -> None:
    assert told(source.replace(old, new)) == []


def test_views_that_are_meant_to_follow_are_none() -> None:
    bank = (
        SETUP
        + """bank = torch.stack([parameters_to_vector(net.parameters()).detach() for _ in range(2)])
for generation in range(2):
    for row in bank:
        vector_to_parameters(row, net.parameters())
        train(net)
"""
    )
    pointed_at_again = VECTOR.replace("range(2)", "range(4)").replace("train(net)", "train(net, 1)")
    perturbed = (
        SETUP
        + """flat = parameters_to_vector(net.parameters()).detach().clone()
for k in range(3):
    vector_to_parameters(flat + 0.1, net.parameters())
    net(torch.ones(2, 3))
    vector_to_parameters(flat, net.parameters())
    train(net)
"""
    )
    kept_up = VECTOR.replace("    vector", "    start.mul_(0.9)\n    vector")
    assert [told(source) for source in (bank, pointed_at_again, perturbed, kept_up)] == [[], [], [], []]


CHAMPION = (
    SETUP
    + """class Champion:
    vector, loss = None, float("inf")
    def offer(self, net, loss):
        if loss < self.loss:
            self.vector, self.loss = parameters_to_vector(net.parameters()).detach(), loss
    def restore(self, net):
        vector_to_parameters(self.vector, net.parameters())  # puts
champion, losses = Champion(), iter([3.0, 2.0, 1.0, 4.0, 5.0])
for step in range(5):
    train(net, 1)
    champion.offer(net, next(losses))
    if step == 2:
        champion.restore(net)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.1 * torch.randn_like(p))
final = nn.Linear(3, 2)
champion.restore(final)
print(final(torch.ones(1, 3)))
"""
)
ONE_BY_ONE = (
    SETUP
    + """def put(values, net):
    for p, value in zip(net.parameters(), values):
        p.data = value  # puts
taken = [p.detach().clone() for p in net.parameters()]
train(net)
put(taken, net)
train(net)
judge = nn.Linear(3, 2)
put(taken, judge)
print(judge(torch.ones(1, 3)))
"""
)


@pytest.mark.parametrize("source", [CHAMPION, ONE_BY_ONE])
def test_what_was_kept_of_one_moment_and_is_given_to_another_network(source: str) -> None:
    assert told(source) == [("loaded-without-copy", line_of(source, "# puts"))]


@pytest.mark.parametrize(
    ("source", "old", "new"),
    [
        (CHAMPION, "(self.vector, net", "(self.vector.clone(), net"),
        (CHAMPION, "if step == 2", "if step == 4"),
        (CHAMPION, "champion.restore(final)", ""),
        (CHAMPION, "champion.restore(final)", "champion.vector.mul_(0.9); champion.restore(final)"),
        (ONE_BY_ONE, "p.data = value", "p.data.copy_(value)"),
        # One memory for all from the beginning on: what the second network gets is meant to be what was learned.
        (ONE_BY_ONE, "]\ntrain(net)", "]"),
        (ONE_BY_ONE, "train(net)\njudge", "judge"),
    ],
    ids=["a copy", "put back last", "put back once", "moved by hand", "copied", "one memory", "not trained on"],
)
def test_what_is_given_to_another_network_as_it_is(source: str, old: str, new: str) -> None:
    assert old in source
    assert told(source.replace(old, new)) == []
