"""States of optimizers that are looked up under a wrong key; and parameters that are to begin without one."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

GROW = """
import torch
net = torch.nn.Module()
net.w = torch.nn.Parameter(torch.ones(3))
net.v = torch.nn.Parameter(torch.ones(3))
make = lambda: torch.optim.Adam([{"params": [getattr(net, n)], "name": n} for n in ("w", "v")], lr=0.1)
optimizer = make()
def longer(x, value):
    return torch.cat([x, torch.full((1,), value)])
def swap(number, group):
    old = group["params"][0]
    new = torch.nn.Parameter(longer(old.detach(), 1.0))
    state = optimizer.state.pop(old, {})  # looks up
    for name in ("exp_avg", "exp_avg_sq"):
        if name in state:
            state[name] = longer(state[name], 0.0)
    optimizer.state.pop(old, None)
    if state:
        optimizer.state[new] = state
    group["params"][0] = new
    setattr(net, group["name"], new)
def grow():
    for number, group in enumerate(optimizer.param_groups):
        swap(number, group)
for round in range(2):
    for step in range(3):
        optimizer.zero_grad()
        (net.w * net.v).pow(2).sum().backward()
        optimizer.step()
    grow()
"""
RIGHT = "optimizer.state.pop(old, {})"


def lines(source: str) -> list[int]:
    recording = recorded(source)
    assert recording.info.outcome.kind == "ok"
    return [cause.line for one in build(recording).answers if one.code == "state-left-behind" for cause in one.causes]


def changed(*changes: tuple[str, str]) -> str:
    source = GROW
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return source


@pytest.mark.parametrize(
    "changes",
    [
        [(RIGHT, "optimizer.state.pop(number, {})")],
        [(RIGHT, 'optimizer.state.get(group["name"], {})')],
        [(RIGHT, "optimizer.state.get(new, {})")],
        [(RIGHT, "optimizer.state.get(old.data, {})")],
        [(RIGHT, "optimizer.state.pop(old.detach(), {})")],
        [
            (RIGHT, "optimizer.state.pop(number, {})"),
            ("Adam(", "SGD("),
            ("lr=0.1", "lr=0.1, momentum=0.9"),
            ('("exp_avg", "exp_avg_sq")', '("momentum_buffer",)'),
        ],
        [
            (RIGHT, "optimizer.state.pop(number, {})"),
            ("swap(number, group)\nfor", "swap(group=group, number=number)\nfor"),
        ],
    ],
)
def test_the_look_up_is_the_cause(changes: list[tuple[str, str]]):
    source = changed(*changes)
    assert lines(source) == [line_of(source, "# looks up")]


@pytest.mark.parametrize(
    "changes",
    [
        [],
        [(RIGHT, "optimizer.state.get(group['params'][0], {})")],
        # found in the end
        [(RIGHT, "optimizer.state.pop(number, {})  # looks up\n    state = state or optimizer.state.pop(old, {})")],
        # which key it is does not show
        [(RIGHT, "optimizer.state.pop(number, {})"), ("swap(number, group)\nfor", "swap(str(number), group)\nfor")],
        # nothing is carried over, on purpose; or there was nothing yet
        [(RIGHT, "optimizer.state.pop(number, {})"), ("        optimizer.state[new] = state\n", "        pass\n")],
        [
            (RIGHT, "optimizer.state.pop(number, {})"),
            ("    grow()\n", ""),
            ("for round in range(2):\n", "grow()\nif True:\n"),
        ],
        # no moments: nothing is lost
        [(RIGHT, "optimizer.state.pop(number, {})"), ("Adam(", "SGD(")],
        # another optimizer, which begins anew
        [(RIGHT, "optimizer.state.pop(number, {})"), ("    grow()\n", "    grow()\n    optimizer = make()\n")],
        # nothing steps after it
        [(RIGHT, "optimizer.state.pop(number, {})"), ("range(2)", "range(1)")],
    ],
)
def test_no_state_is_left_behind_by_a_wrong_key(changes: list[tuple[str, str]]):
    assert lines(changed(*changes)) == []


def test_a_dict_of_the_programs_own_is_no_optimizers_state():
    source = changed(
        (RIGHT, "optimizer.state.pop(old, {})\n    own = mine.state.get(number)\n    mine.state[new] = own")
    )
    assert lines(source.replace("def longer", "class mine:\n    state = {}\ndef longer")) == []
