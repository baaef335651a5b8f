"""A state that is detached once before the rounds of a loop that carry it on."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
cell, out = nn.LSTMCell(2, 3), nn.Linear(3, 1)
def rewrap(state):
    return tuple(one.detach() for one in state)
def train(epochs):
    hidden = torch.zeros(4, 3), torch.zeros(4, 3)
    for epoch in range(epochs):
        {epoch}
        for batch in range(3):
            {batch}
            loss = 0
            for t in range(2):
                hidden = cell(torch.ones(4, 2), hidden)  # kept
                loss = loss + out(hidden[0]).mean()
            loss.backward()
train({epochs})
"""
SPELLINGS = [
    "hidden = rewrap(hidden)",
    "hidden = tuple(one.detach() for one in hidden)",
    "hidden = hidden[0].detach(), hidden[1].detach()",
    "hidden = [one.detach() for one in hidden]",
]


def said(epoch: str, batch: str, epochs: int = 2) -> tuple[str, list[Answer]]:
    source = PROGRAM.format(epoch=epoch, batch=batch, epochs=epochs)
    return source, [one for one in build(recorded(source)).answers if one.code == "graph-used-twice"]


@pytest.mark.parametrize("detached", SPELLINGS)
def test_the_line_that_detaches_too_seldom_is_named_first(detached: str) -> None:
    source, (answer,) = said(f"{detached}  # here", "pass")
    assert answer.causes[0].line == line_of(source, "# here")
    assert f"line {line_of(source, 'for batch')}" in answer.text


def test_without_any_it_is_not_said() -> None:
    (answer,) = said("pass", "pass")[1]
    assert "before the loop" not in answer.text


@pytest.mark.parametrize("detached", SPELLINGS)
def test_a_state_that_is_detached_in_each_round_is_fine(detached: str) -> None:
    assert said("pass", detached)[1] == []
