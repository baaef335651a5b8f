"""Rates that are written into a group that the optimizer has no more, and groups that are looked up each time."""

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

HEAD = """
import copy
import torch
layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
saved = copy.deepcopy(optimizer.state_dict())
class Warmup:
    def __init__(self, group):
        self.group = group
    def set(self, rate):
        self.group["lr"] = rate
def step():
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
"""


def said(source: str) -> list[int]:
    answers = build(recorded(HEAD + source)).answers
    return [one.causes[0].line for one in answers if one.code == "rate-of-lost-group"]


@pytest.mark.parametrize(
    ("keeping", "writing"),
    [
        ("warmup = Warmup(optimizer.param_groups[0])  # here", "warmup.set(0.1 / (i + 1))"),
        ("warmup = Warmup(group=optimizer.param_groups[0])  # here", "warmup.set(0.1 / (i + 1))"),
        ("group = optimizer.param_groups[0]  # here", "group['lr'] *= 0.5"),
        ("groups = optimizer.param_groups  # here", "\n    for one in groups: one['lr'] *= 0.5"),
    ],
)
@pytest.mark.parametrize("load", ["optimizer.load_state_dict(saved)", "step(); optimizer.load_state_dict(saved)"])
def test_a_kept_group_is_written_after_a_load(keeping: str, writing: str, load: str) -> None:
    source = f"{keeping}\n{load}\nfor i in range(4):\n    step(); {writing}"
    assert said(source) == [line_of(HEAD + source, "# here")]


def test_the_load_is_named_where_it_is_not_known_who_keeps_the_group() -> None:
    source = (
        "first = Warmup(optimizer.param_groups[0])\nsecond = Warmup(optimizer.param_groups[0])\n"
        "optimizer.load_state_dict(saved)  # here\nfor i in range(4): step(); first.set(0.1 / (i + 2))"
    )
    assert said(source) == [line_of(HEAD + source, "# here")]


@pytest.mark.parametrize(
    "source",
    [
        "optimizer.load_state_dict(saved)\nw = Warmup(optimizer.param_groups[0])\n"
        "for i in range(4): step(); w.set(0.1 / (i + 2))",
        "w = Warmup(optimizer.param_groups[0])\nfor i in range(4): step(); w.set(0.1 / (i + 2))\n"
        "optimizer.load_state_dict(saved)\nstep()",
        "w = Warmup(optimizer.param_groups[0])\noptimizer.load_state_dict(saved)\nfor i in range(4): step()",
        "w = Warmup(optimizer.param_groups[0])\noptimizer.load_state_dict(saved)\nw.group = optimizer.param_groups[0]\n"
        "for i in range(4): step(); w.set(0.1 / (i + 2))",
        "for group in optimizer.param_groups: group['lr'] = 0.2\noptimizer.load_state_dict(saved)\n"
        "for i in range(4):\n    step()\n    for group in optimizer.param_groups: group['lr'] *= 0.5",
        # (both are set: which of them is meant is not known)
        "w = Warmup(optimizer.param_groups[0])\noptimizer.load_state_dict(saved)\n"
        "for i in range(4):\n    w.set(0.1 / (i + 2)); optimizer.param_groups[0]['lr'] *= 0.5\n    step()",
    ],
)
def test_groups_that_are_looked_up_or_left_as_they_are(source: str) -> None:
    assert said(source) == []


def test_a_group_that_was_kept_keeps_no_parameter_alive() -> None:
    source = """
import gc, weakref
first = optimizer.param_groups[0]
optimizer.load_state_dict(saved)
step()
seen = weakref.ref(layer.weight)
del first, optimizer, layer, saved
gc.collect()
assert seen() is None
"""
    assert recorded(HEAD + source).info.outcome.kind == "ok"
    held = source.replace("del first, optimizer", "del optimizer")
    assert recorded(HEAD + held).info.outcome.kind == "exception"
