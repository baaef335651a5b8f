"""Results of trained weights that a function keeps, one for each key: where it keeps them."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

KEPT = """
import torch
from functools import lru_cache
from torch import nn
torch.manual_seed(0)
table = nn.Parameter(torch.randn(6, 4))
optimizer = torch.optim.SGD([table], lr=0.1)
resized = {}
def positions(size):
    if size not in resized:
        rows = table[:size].t()
        resized[size] = rows + 0  # kept
    return resized[size]
for epoch in range(6):
    for size in (3, 5):
        loss = (positions(size) - torch.ones(4, size)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # end
"""
DECORATED = KEPT.replace("def positions(size):", "@lru_cache  # kept\ndef positions(size):").replace(
    "    if size not in resized:\n        rows = table[:size].t()\n        resized[size] = rows + 0  # kept\n"
    "    return resized[size]\n",
    "    return table[:size].t() + 0\n",
)
NAMED = KEPT.replace(
    "        resized[size] = rows + 0  # kept\n", "        moved = rows + 0\n        resized[size] = moved  # kept\n"
)
RETURNED = KEPT.replace(
    "    if size not in resized:\n        rows = table[:size].t()\n        resized[size] = rows + 0  # kept\n",
    "    if size in resized:\n        return resized[size]\n    resized[size] = table[:size].t() + 0  # kept\n",
)


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "stale-result"]


@pytest.mark.parametrize("source", [KEPT, DECORATED, NAMED, RETURNED], ids=["dict", "lru_cache", "named", "returned"])
def test_where_results_are_kept_by_key_is_named_once(source: str) -> None:
    (answer,) = found(source)
    assert [cause.line for cause in answer.causes] == [line_of(source, "# kept")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("    # end", "    resized.clear()"),
        ("optimizer.step()\n", "optimizer.step()\n        resized.clear()\n"),
        ("if size not in resized:", "if True:"),
        ("SGD([table]", "SGD([nn.Parameter(torch.ones(2))]"),
    ],
    ids=["emptied each epoch", "emptied each step", "computed anew", "not trained"],
)
def test_what_is_renewed_or_not_trained_is_in_order(old: str, new: str) -> None:
    assert not found(KEPT.replace(old, new))
