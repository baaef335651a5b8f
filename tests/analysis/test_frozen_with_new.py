"""A call that adds a frozen part and freezes one in training: told; freezing on purpose is silent."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

LOOP = """
import torch
from torch import nn
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleDict()
    def add(self, name, trained):
        self.parts[name] = nn.Linear(3, 3)
        self.mode(name, trained)  # called
    def mode(self, name, trained):
        MODE
    def forward(self, x):
        return self.parts["policy"](x)
net, head = Model(), nn.Linear(3, 1)
net.add("policy", True)
optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], 0.1)
AFTER
for step in range(4):
    optimizer.zero_grad()
    head(net(torch.rand(5, 3))).sum().backward()
    optimizer.step()
"""
ALL = "self.requires_grad_(trained)"
ADDED = 'net.add("reference", False)'


def said(mode: str, after: str) -> list[Answer]:
    source = LOOP.replace("MODE", mode).replace("AFTER", after)
    return [one for one in build(recorded(source)).answers if one.code == "frozen-with-new"]


def test_the_line_within_what_adds_is_named_and_where_it_was_called() -> None:
    (answer,) = said(ALL, ADDED)
    assert [cause.line for cause in answer.causes] == [line_of(LOOP, "# called"), line_of(LOOP, "AFTER")]
    assert "net.parts.policy.weight and net.parts.policy.bias" in answer.text


@pytest.mark.parametrize(
    ("mode", "after"),
    [
        ("self.parts[name].requires_grad_(trained)", ADDED),
        (ALL, 'net.mode("policy", False)'),
        (ALL, 'net.add("column", False); net.parts["policy"].requires_grad_(True)'),
        (ALL, 'net.add("column", False); optimizer.add_param_group({"params": net.parts["column"].parameters()})'),
        ("pass", 'net.add("column", False); net.requires_grad_(False)'),
    ],
)
def test_freezing_on_purpose_and_what_is_switched_on_again_is_fine(mode: str, after: str) -> None:
    assert not said(mode, after)


HANDED_ON = """
import copy, torch
from torch import nn
class Tuned(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.parts = nn.Linear(3, 3), nn.ModuleDict()
    def put(self, name, part, trained=False):
        self.parts[name] = part
        MODE
    def mode(self, trained):
        SET
    def forward(self, x):
        return self.base(x) + self.parts["policy"](x)
def freeze(module):
    module.requires_grad_(False)
def compare(net):
    net.put("first", MADE)  # added
    size = (net.parts["policy"].weight - net.parts["first"].weight).detach().norm()
    del net.parts["first"]
    return size
net = Tuned()
net.put("policy", nn.Linear(3, 3), True)
start = copy.deepcopy(net.parts["policy"])
optimizer = torch.optim.SGD(net.parameters(), 0.1)
for step in range(6):
    optimizer.zero_grad()
    net(torch.rand(5, 3)).sum().backward()
    optimizer.step()
    if step == 2:
        compare(net)
    AFTER
"""
EACH = "for part in self.parts.values(): part.requires_grad_(trained)"
COPY = "copy.deepcopy(start)"


def lines_of(source: str) -> list[list[int]]:
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "frozen-with-new"]


@pytest.mark.parametrize("made", [COPY, "nn.Linear(3, 3)"])
@pytest.mark.parametrize("sets", [EACH, "self.parts.requires_grad_(trained)"])
def test_what_a_function_makes_and_hands_on_to_be_added_in_the_middle_of_the_training(made: str, sets: str) -> None:
    source = HANDED_ON.replace("MODE", "self.mode(trained)  # moded").replace("MADE", made)
    source = source.replace("SET", sets).replace("AFTER", "pass")
    assert lines_of(source) == [[line_of(source, "# moded"), line_of(source, "# added")]]


@pytest.mark.parametrize(
    ("mode", "made", "after"),
    [
        ("part.requires_grad_(trained)", COPY, "pass"),
        ("self.mode(trained)", COPY, "net.parts.requires_grad_(True)"),
        ("freeze(part) if not trained else None", COPY, "freeze(net.parts['policy'])"),
        ("freeze(part) if not trained else None; freeze(self.parts['policy'])", COPY, "pass"),
    ],
)
def test_what_is_frozen_alone_for_a_while_or_by_a_call_of_its_own_is_fine(mode: str, made: str, after: str) -> None:
    source = HANDED_ON.replace("MODE", mode).replace("MADE", made).replace("AFTER", after).replace("SET", EACH)
    assert not lines_of(source)
