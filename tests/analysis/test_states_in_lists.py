"""Recurrent states that a list keeps with their graphs: the line that puts them there is the one to change."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

BUFFER = """
import random
import torch
from torch import nn
cell, head = nn.GRUCell(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.1)
class Buffer:
    def __init__(self):
        self.items = []
    def store(self, x, state):
        self.items.append((x, state))  # puts
buffer = Buffer()
for step in range(60):
    if step % 12 == 0:
        h = torch.zeros(5, 4)
    x, before = torch.randn(5, 3), h
    h = cell(x, before)  # makes
    buffer.store(x, before)  # hands
    seen, state = random.choice(buffer.items)
    loss = head(cell(seen, state.detach())).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

PLAIN = """
import torch
from torch import nn
cell, head = nn.LSTMCell(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.1)
states = []
for step in range(60):
    if step % 12 == 0:
        state = (torch.zeros(5, 4), torch.zeros(5, 4))
    x = torch.randn(5, 3)
    state = cell(x, state)  # makes
    states.append(state)  # puts
    h, c = states[step // 2]
    loss = head(cell(x, (h.detach(), c.detach()))[0]).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(source: str) -> list[Answer]:
    return [one for one in build(recorded(source)).answers if one.code == "graph-carried-along"]


@pytest.mark.parametrize(
    ("source", "marks"), [(BUFFER, ("# puts", "# hands", "# makes")), (PLAIN, ("# puts", "# makes"))]
)
def test_what_puts_a_state_there_comes_first_where_the_recursion_begins_anew(
    source: str, marks: tuple[str, ...]
) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source.lstrip("\n"), mark) for mark in marks]
    assert f"Line {line_of(source.lstrip(chr(10)), '# puts')}: " in answer.text


def test_a_recursion_that_never_begins_anew_is_cut_where_it_runs() -> None:
    source = PLAIN.replace("if step % 12 == 0:", "if step == 0:").lstrip("\n")
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# makes"), line_of(source, "# puts")]
    assert answer.text.startswith(f"Line {line_of(source, '# makes')}: ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("states.append(state)", "states.append(tuple(one.detach() for one in state))"),
        ("    state = cell(x, state)", "    with torch.no_grad(): state = cell(x, state)"),
    ],
)
def test_a_list_of_states_without_graphs_is_not_named(old: str, new: str) -> None:
    source = PLAIN.replace(old, new).lstrip("\n")
    lines = [cause.line for answer in found(source) for cause in answer.causes]
    assert line_of(source, "# puts") not in lines
