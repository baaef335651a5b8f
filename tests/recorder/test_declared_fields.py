"""Parts of values by the fields that their classes declare; none of the program's code runs for them."""

from __future__ import annotations

import pytest

from tests.analysis.building import line_of, recorded

NAMED = """
import torch
from typing import NamedTuple
class State(NamedTuple):
    hidden: torch.Tensor
    cell: torch.Tensor
"""
DATA = """
import torch
from dataclasses import dataclass
class Kind(type):
    pass
@dataclass
class State(metaclass=Kind):
    hidden: torch.Tensor
    cell: torch.Tensor
    def __getattribute__(self, name):
        raise RuntimeError(name)
def never(*args):
    raise RuntimeError("compared")
Kind.__eq__ = Kind.__hash__ = never
"""
PLAIN = """
import torch
class State:
    def __init__(self, hidden, cell):
        self.hidden, self.cell = hidden, cell
"""
STEP = """
def step(x):
    return State(x * 2, x * 3)
state = step(torch.ones(2, requires_grad=True))
torch.ones(1)
"""


@pytest.mark.parametrize(("declared", "found"), [(NAMED, True), (DATA, True), (PLAIN, False)])
def test_what_a_class_declares_is_named_where_the_value_is_stored(declared: str, found: bool) -> None:
    recording = recorded(declared + STEP)
    line = line_of(declared + STEP, "state = step")
    named = {
        recording.text(one.name)
        for one in recording.bindings
        if one.span >= 0 and recording.spans[one.span].line == line
    }
    assert named == ({"state.hidden", "state.cell"} if found else set())
