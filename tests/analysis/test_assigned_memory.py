"""Parameters that are put on others' memory to bring them up to date: found where it is done now and then."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

SYNCED = """import torch
from torch import nn
online, target = nn.Linear(3, 1), nn.Linear(3, 1)
target.requires_grad_(False)
opt = torch.optim.Adam(online.parameters())
def sync(into, source):
    for mine, theirs in zip(into.parameters(), source.parameters()):
        mine.data = theirs.data  # puts
sync(target, online)
for step in range(9):
    loss = (online(torch.ones(4, 3)) - target(torch.ones(4, 3)) - 1).pow(2).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 3 == 2:
        sync(target, online)
"""


def lines(source: str) -> list[int]:
    answers = build(recorded(source)).answers
    return [cause.line for answer in answers if answer.code == "memory-assigned" for cause in answer.causes]


@pytest.mark.parametrize("value", ["theirs.data", "theirs.detach()", "theirs"])
def test_the_assignment_is_the_cause(value: str) -> None:
    source = SYNCED.replace("mine.data = theirs.data", f"mine.data = {value}")
    assert lines(source) == [line_of(source, "# puts")]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mine.data = theirs.data", "mine.data.copy_(theirs.data)"),
        ("mine.data = theirs.data", "mine.data = theirs.data.clone()"),
        ("if step % 3 == 2:", "if True:"),  # one with the other at each step: tied on purpose
        ("if step % 3 == 2:", "if False:"),
    ],
)
def test_copies_and_what_is_tied_are_none(old: str, new: str) -> None:
    assert lines(SYNCED.replace(old, new)) == []
