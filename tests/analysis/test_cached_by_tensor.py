"""Caches of functools that are given a new tensor in each call."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import recorded

SOURCE = """\
from functools import cache, lru_cache
import functools
import torch

class Distances:
{decorator}
    def between(self, points, power=2):
        return (points[:, None] - points[None]).abs().pow(power).sum(-1)

{wrapped}
kept = []
batches = [torch.randn(6, 3) for _ in range(12)]
model = Distances()
for epoch in range({epochs}):
    for step in range(12):
        points = {points}
        between = model.between({argument})
        {then}
"""


def lines(
    decorator: str = "@lru_cache(maxsize=None)",
    points: str = "torch.randn(6, 3)",
    argument: str = "points",
    then: str = "total = between.mean().item()",
    wrapped: str = "",
    epochs: int = 1,
) -> list[int]:
    source = SOURCE.format(
        decorator=f"    {decorator}",
        wrapped=wrapped,
        points=points,
        then=then,
        argument=argument,
        epochs=epochs,
    )
    answers = build(recorded(source)).answers
    return [cause.line for one in answers if one.code == "cached-by-tensor" for cause in one.causes]


@pytest.mark.parametrize("decorator", ["@lru_cache(maxsize=None)", "@functools.cache", "@lru_cache", "@lru_cache(64)"])
def test_a_new_tensor_in_each_call_is_kept_by_the_cache(decorator: str):
    assert lines(decorator) == [6]


def test_new_views_of_stored_data_are_new_keys_as_well():
    assert lines(points="batches[step][:4]") == [6]


def test_a_function_that_is_wrapped_later_is_named_where_it_is():
    assert lines("#", wrapped="Distances.between = cache(Distances.between)") == [10]


@pytest.mark.parametrize(
    "arguments",
    [
        {"decorator": "# no cache"},
        {"points": "batches[step]"},
        {"points": "batches[step]", "epochs": 2},
        {"points": "batches[step % 3][:4] if epoch else batches[0]"},
        {"then": "kept.append(points)"},
        {"decorator": "@lru_cache(maxsize=4)"},
        {"then": "model.between.cache_clear()"},
        {"decorator": "#", "then": "kept.append(between)"},
    ],
)
def test_keys_that_come_again_or_go_away_are_fine(arguments: dict[str, str | int]):
    assert lines(**arguments) == []


def test_results_that_a_loader_holds_and_gives_again_are_found_by_the_cache():
    source = """\
import functools
import torch

def loader():
    rows = [torch.randn(6, 3) for _ in range(10)]
    while True:
        yield from rows

@functools.cache
def distances(points):
    return (points[:, None] - points[None]).norm(dim=-1)

steps = loader()
for step in range(30):
    distances(next(steps)).mean()
"""
    assert [one for one in build(recorded(source)).answers if one.code == "cached-by-tensor"] == []


def test_what_keeps_graphs_is_said_once():
    source = """\
import functools
import torch

net = torch.nn.Linear(3, 3)

@functools.cache
def distances(points):
    return (points[:, None] - points[None]).pow(2).sum(-1)

for step in range(20):
    loss = distances(net(torch.randn(6, 3))).mean()
    loss.backward()
"""
    codes = [one.code for one in build(recorded(source)).answers if one.severity != "note"]
    assert codes == ["graph-kept-after-pass"]
