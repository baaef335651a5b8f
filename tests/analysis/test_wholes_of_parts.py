"""Data that a layer made once before a loop: what all batches share is the cause, not the call that cut it up."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

BATCHES = """
import torch
from torch import nn
torch.manual_seed(0)
embed, net = nn.Linear(3, 4), nn.Linear(4, 1)
data = torch.tanh(embed(torch.randn(24, 3))){cut}  # made
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
{before}
for epoch in range(2):
    for batch in {batches}:
        loss = net(batch).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def named(source: str) -> list[tuple[str, list[int]]]:
    answers = [one for one in build(recorded(source)).answers if one.code == "graph-used-twice"]
    return [(one.text, [cause.line for cause in one.causes]) for one in answers]


@pytest.mark.parametrize(
    ("before", "batches"),
    [
        ("", "data.split(8)"),
        ("parts = torch.chunk(data, 3)", "parts"),
        ("", "data"),
        ("a, b, c = data.view(3, 8, 4).unbind()", "(a, b, c)"),
        ("parts = data.tensor_split(3); pairs = list(zip(parts, range(3)))", "(one for one, _ in pairs)"),
        ("", "(data[start:start + 8] for start in range(0, 24, 8))"),
    ],
)
def test_the_line_that_made_what_all_batches_share_is_named(before: str, batches: str) -> None:
    source = BATCHES.format(before=before, batches=batches, cut="")
    ((text, lines),) = named(source)
    assert lines == [line_of(source, "# made")]
    assert "through data (made at" in text
    assert named(BATCHES.format(before=before, batches=batches, cut=".detach()")) == []


TWO = """
import torch
torch.manual_seed(0)
encoder = torch.nn.Linear(4, 8)
given = torch.randn(2, 4)
both = torch.tanh(encoder(given))  # made
mean, scale = both.chunk(2, dim=1)
mean.pow(2).sum().backward()
scale.exp().sum().backward()
"""
CARRIED = """
import torch
torch.manual_seed(0)
cell, kept = torch.nn.Linear(4, 8), torch.zeros(2, 4)
for step in range(3):
    both = torch.tanh(cell(torch.randn(2, 4) + kept))  # made
    out, kept = both.chunk(2, dim=1)  # cut
    out.sum().backward()
"""


def test_the_halves_of_one_result_share_what_was_cut_in_two() -> None:
    ((_, lines),) = named(TWO)
    assert lines == [line_of(TWO, "# made")]


def test_a_state_that_each_round_cuts_off_anew_is_named_where_it_is_kept() -> None:
    ((_, lines),) = named(CARRIED)
    assert lines == [line_of(CARRIED, "# cut")]
