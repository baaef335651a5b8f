"""Loaded weights that copies made before the load take the place of; and loads, swaps and copies that lose nothing."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

MASTERS = """
import copy
import torch
class Masters:
    def __init__(self, params):
        self.params = list(params)
        self.masters = [p.detach().float().clone() for p in self.params]  # copies
        self.inner = torch.optim.Adam(self.masters, lr=0.1)
    def step(self):
        for p, master in zip(self.params, self.masters):
            master.grad = p.grad.float()
        self.inner.step()
        self.write()
    def write(self):
        with torch.no_grad():
            for p, master in zip(self.params, self.masters):
                p.copy_(master)  # back
    def refresh(self):
        for p, master in zip(self.params, self.masters):
            master.copy_(p.detach())
def load(net, state):
    net.load_state_dict(state)  # load
def train(net, optimizer, steps=3):
    for _ in range(steps):
        net(x).pow(2).sum().backward()
        optimizer.step()
        net.zero_grad()
x = torch.arange(6.0).reshape(2, 3).bfloat16()
trained, net = (torch.nn.Linear(3, 2, dtype=torch.bfloat16) for _ in range(2))
# begin
optimizer = Masters(net.parameters())
load(net, trained.state_dict())  # called
train(net, optimizer)
# end
"""
LOADS = "    net.load_state_dict(state)  # load\n"
COPY = "[p.detach().float().clone() for p in self.params]"
BACK = "p.copy_(master)"


def lines(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "masters-before-load"]


def changed(source: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [(COPY, "[copy.deepcopy(p) for p in self.params]"), ("master.grad = p.grad.float()", "master.grad = p.grad")],
        [
            (COPY, "[torch.nn.Parameter(p.data.float()) for p in self.params]"),
            (BACK, "p.data = master.data.bfloat16()"),
        ],
        [(LOADS, "    for name, p in net.named_parameters():\n        p.data.copy_(state[name].clone())  # load\n")],
        [(LOADS, "    for name, p in net.named_parameters():\n        p.data = state[name].clone()  # load\n")],
        [(COPY, "[torch.empty_like(p, dtype=torch.float).copy_(p.detach()) for p in self.params]")],
        [
            (
                "self.write()\n    def",
                "torch._foreach_copy_([p.data for p in self.params], self.masters)  # back\n    def",
            )
        ],
        # a snapshot of its own, from before the training that the copies begin at
        [
            ("# begin", "best = copy.deepcopy(net.state_dict())\ntrain(net, Masters(net.parameters()))"),
            ("load(net, trained.state_dict())", "load(net, best)"),
        ],
    ],
)
def test_a_load_after_the_copies_were_made(changes: list[tuple[str, str]]):
    source = changed(MASTERS, *changes)
    found = lines(source)
    assert len(found) == 1, found
    assert found[0][:2] == [line_of(source, "# called"), line_of(source, "# copies")]
    assert line_of(source, "# back") in found[0]


def test_copies_in_one_row():
    source = changed(
        MASTERS,
        (COPY, "[torch.cat([p.detach().float().reshape(-1) for p in self.params])]"),
        (
            "        for p, master in zip(self.params, self.masters):\n            master.grad = p.grad.float()\n",
            "        self.masters[0].grad = torch.cat([p.grad.float().reshape(-1) for p in self.params])\n",
        ),
        (
            "            for p, master in zip(self.params, self.masters):\n                p.copy_(master)",
            "            at = 0\n            for p in self.params:\n"
            "                p.copy_(self.masters[0][at:(at := at + p.numel())].view_as(p))",
        ),
    )
    assert [one[0] for one in lines(source)] == [line_of(source, "# called")]


@pytest.mark.parametrize(
    "changes",
    [
        # loaded before, or the copies refreshed behind the load
        [("load(net, trained.state_dict())  # called", "pass"), ("# begin", "load(net, trained.state_dict())")],
        [("train(net, optimizer)\n# end", "optimizer.refresh()\ntrain(net, optimizer)")],
        [(LOADS, LOADS + "    optimizer.refresh()\n")],
        # what is loaded are the values that were there: a snapshot, or what both were made from
        [
            ("# begin", "first = copy.deepcopy(net.state_dict())"),
            ("load(net, trained.state_dict())", "load(net, first)"),
        ],
        [("# begin", "load(net, trained.state_dict())")],
        [("# begin", "net = copy.deepcopy(trained)")],
        # an average that is put in for an evaluation, and the values are put back, or the next step does that
        [
            (
                "load(net, trained.state_dict())  # called",
                "train(net, optimizer)\nkept = copy.deepcopy(net.state_dict())\n"
                "load(net, trained.state_dict())\nnet(x)\nload(net, kept)",
            )
        ],
        [
            (
                "load(net, trained.state_dict())  # called",
                "train(net, optimizer)\nload(net, trained.state_dict())\nnet(x)",
            )
        ],
        [
            (
                "load(net, trained.state_dict())  # called",
                "kept = copy.deepcopy(net.state_dict())\nload(net, trained.state_dict())\nnet(x)\nload(net, kept)",
            )
        ],
        # nothing is copied back: the copies are an average, or another model
        [("        self.write()\n    def", "    def")],
        # the copies are what is trained: those that lag behind get no gradients
        [
            (
                "net(x).pow(2).sum().backward()",
                "[m.requires_grad_() for m in optimizer.masters]\n"
                "        sum(m.pow(2).sum() for m in optimizer.masters).backward()\n"
                "        net.zero_grad()\n        for p, m in zip(net.parameters(), optimizer.masters):\n"
                "            p.grad = m.grad.to(p.dtype)",
            )
        ],
    ],
)
def test_nothing_that_was_loaded_is_lost(changes: list[tuple[str, str]]):
    recording = recorded(changed(MASTERS, *changes))
    assert recording.info.outcome.kind == "ok"
    assert not [one for one in build(recording).answers if one.code == "masters-before-load"]


def test_weights_that_come_from_the_copies_each_round():
    # workers of a server: each begins at its values, trains on, and hands it gradients
    source = """
import copy
import torch
x = torch.ones(2, 3)
net = torch.nn.Linear(3, 2)
server = copy.deepcopy(net)
optimizer = torch.optim.SGD(server.parameters(), lr=0.1)
for _ in range(4):
    net.load_state_dict(server.state_dict())
    net(x).pow(2).sum().backward()
    for p, q in zip(server.parameters(), net.parameters()):
        p.grad = q.grad.clone()
    optimizer.step()
    net.zero_grad()
"""
    assert not lines(source)
