"""More values are scattered than there are places: some fall on others."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
layer = torch.nn.Linear(3, 4)
cells = torch.arange(20) % 6
values = layer(torch.rand(20, 3))
every = cells[:, None].expand_as(values)
grid = torch.zeros(6, 4)
grid = MADE  # scattered
(grid - 1).pow(2).mean().backward()
"""


def found(made: str) -> list[int]:
    source = PROGRAM.replace("MADE", made)
    answers = [one for one in build(recorded(source)).answers if one.code == "repeated-index-write"]
    return [cause.line - line_of(source, "# scattered") for one in answers for cause in one.causes]


@pytest.mark.parametrize(
    "made",
    [
        "grid.scatter(0, every, values)",
        "torch.scatter(grid, 0, every, values)",
        "grid.scatter_(dim=-2, index=every, src=values)",
        "grid.index_copy(0, cells, values)",
        "grid.T.scatter(1, every.T, values.T).T",
    ],
)
def test_some_fall_on_others(made: str) -> None:
    assert found(made) == [0]


@pytest.mark.parametrize(
    "made",
    [
        "grid.scatter_add(0, every, values)",
        "grid.scatter_reduce(0, every, values, reduce='mean', include_self=False)",
        "grid.index_add(0, cells, values)",
        "grid.scatter(0, every[:6], values[:6])",
        "grid.scatter(0, every, values.detach()) + values.sum()",
        "torch.zeros(20, 4).scatter(0, every, values)",
        "grid.scatter(0, every, 1.0) * values.sum()",
    ],
)
def test_each_has_its_place_or_all_count(made: str) -> None:
    assert found(made) == []
