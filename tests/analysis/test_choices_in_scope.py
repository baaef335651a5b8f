"""A parameter that no choice by names has, where what the choices go by is computed: they are what left it out."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

LAYERS = """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(4, 4)
        self.place = nn.Parameter(torch.zeros(4))
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.head = nn.Linear(4, 1)
    def forward(self, x):
        x = self.inp(x) + self.place
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x)
{before}
net = Net()
{made}
for _ in range(4):
    loss = net(torch.ones(2, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LEVELS = """
def levels_of(model):
    levels = [("inp", "place")]
    levels += [(f"blocks.{{i}}",) for i in range(len(model.blocks))]
    return levels + [("head",)]
"""
COMPREHENSION = """
def groups_of(model, rate):
    groups = []
    for level, names in enumerate(levels_of(model)):
        prefixes = tuple(name + {dot} for name in names)  # given
        members = [p for n, p in model.named_parameters() if n.startswith(prefixes)]  # chosen
        groups.append({{"params": members, "lr": rate * 0.8 ** level}})
    return groups
"""
LOOP = """
def groups_of(model, rate):
    levels = levels_of(model)
    groups = [{{"params": [], "lr": rate * 0.8 ** level}} for level in range(len(levels))]
    for n, p in model.named_parameters():
        for group, names in zip(groups, levels):
            if any(n.startswith(name + {dot}) for name in names):  # chosen
                group["params"].append(p)
    return groups
"""
NUMBERED = """
def level_of(levels, name):
    return max((at for at, names in enumerate(levels) if any(name.startswith(n + {dot}) for n in names)), default=-1)
def groups_of(model, rate):
    levels, groups = levels_of(model), dict()
    for n, p in model.named_parameters():
        level = level_of(levels, n)  # given
        if level < 0:  # chosen
            continue
        groups.setdefault(level, []).append(p)
    return [{{"params": some, "lr": rate}} for some in groups.values()]
"""
THERE = """
groups = []
for names in levels_of(net):
    ends = tuple(name + {dot} for name in names)  # given
    groups.append({{"params": [p for n, p in net.named_parameters() if n.startswith(ends)]}})  # chosen
optimizer = torch.optim.SGD(groups, lr=0.1)
"""
CALLED = "optimizer = torch.optim.SGD(groups_of(net, 0.1))"
BY_NAME = "groups = groups_of(net, 0.1)\noptimizer = torch.optim.SGD(groups)"


def told(source: str) -> list[tuple[str, list[int]]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "never-stepped"]
    return [(one.text, [cause.line for cause in one.causes]) for one in answers]


def program(before: str, made: str, dot: str) -> str:
    return LAYERS.format(before=(LEVELS + before).format(dot=dot), made=made.format(dot=dot))


@pytest.mark.parametrize(
    ("before", "made"),
    [(COMPREHENSION, CALLED), (COMPREHENSION, BY_NAME), (LOOP, CALLED), (NUMBERED, CALLED), ("", THERE)],
)
def test_the_choice_that_leaves_it_out_and_what_it_goes_by_are_named(before: str, made: str) -> None:
    source = program(before, made, "'.'")
    ((text, lines),) = told(source)
    chosen = line_of(source, "# chosen")
    given = [line_of(source, "# given")] if "# given" in source else []
    assert f"by name at line {chosen}" in text
    assert lines[: 1 + len(given)] == [chosen, *given]
    assert told(program(before, made, "''")) == []


PLAIN = """
def groups_of(model, rate):
    groups = []
    for names in levels_of(model):
        prefixes = tuple(name + "." for name in names)
        members = [p for n, p in {model}.named_parameters() if {test}]
        groups.append({{"params": members}})
    {last}
"""


@pytest.mark.parametrize(
    "changed",
    [
        {"test": "n.startswith(prefixes) and p.ndim > 1"},  # (what it is, and not its name, may have left it out)
        {"last": "groups = [g for g in groups if len(g['params']) > 1]; return groups"},
        {"last": "groups.append({'params': [p for p in model.parameters() if p.ndim == 5]}); return groups"},
        {"last": "groups.pop(0); return groups"},
    ],
)
def test_what_another_way_may_have_left_out_is_not_put_down_to_the_choice(changed: dict[str, str]) -> None:
    parts = {"model": "model", "test": "n.startswith(prefixes)", "last": "return groups"} | changed
    before = LEVELS.format() + PLAIN.format(**parts)
    for text, _ in told(LAYERS.format(before=before, made=CALLED)):
        assert "by name" not in text


def test_a_parameter_beside_the_module_that_is_chosen_from_is_not_put_down_to_the_choice() -> None:
    before = """
def groups_of(model, rate):
    ends = tuple(f"{i}." for i in range(len(model)))
    return [{"params": [p for n, p in model.named_parameters() if n.startswith(ends)]}]
"""
    made = "optimizer = torch.optim.SGD(groups_of(net.blocks, 0.1), lr=0.1)"
    several = told(LAYERS.format(before=before, made=made))
    assert several
    assert all("by name" not in text for text, _ in several)
