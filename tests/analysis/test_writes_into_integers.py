"""A write into memory of integers cuts the graph; the line to change is the one that made the memory."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
ids = torch.tensor([[1, 2, 3], [2, 1, 0]])
net, other = nn.Linear(1, 1), nn.Linear(1, 1)
optimizer = torch.optim.SGD([*net.parameters(), *other.parameters()], lr=0.1)
for step in range(3):
    values = net(torch.ones(6, 1)).view(2, 3)
    table = {made}  # made
    {write}  # write
    loss = (table - 0.5).abs().mean() + other(torch.ones(2, 1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def causes(made: str, write: str) -> tuple[list[list[int]], str]:
    source = PROGRAM.format(made=made, write=write)
    answers = build(recorded(source)).answers
    return [[cause.line for cause in one.causes] for one in answers if one.code == "leaf-unreached"], source


@pytest.mark.parametrize(
    "made", ["ids.new_zeros(2, 3)", "torch.zeros_like(ids)", "torch.zeros(2, 3, dtype=torch.long)"]
)
@pytest.mark.parametrize("write", ["table[:] = values", "table[0].copy_(values[0])", "table[:, 1:] = values[:, 1:]"])
def test_the_line_that_made_the_integers_comes_first(made: str, write: str) -> None:
    found, source = causes(made, write)
    assert found == [[line_of(source, "# made"), line_of(source, "# write")]]


@pytest.mark.parametrize(
    ("made", "write"),
    [
        ("torch.zeros(2, 3)", "table[:] = values"),
        ("values.new_zeros(2, 3)", "table[0].copy_(values[0])"),
    ],
)
def test_memory_of_floats_takes_the_graph_along(made: str, write: str) -> None:
    assert causes(made, write)[0] == []


def test_a_cut_before_the_write_is_told_as_that() -> None:
    found, source = causes("torch.zeros(2, 3)", "table[:] = values.detach()")
    assert found == [[line_of(source, "# write")]]
