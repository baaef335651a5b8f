"""The last step of unpacked sequences, where the shapes tell that some are shorter."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from tests.analysis.building import line_of, recorded

PROGRAM = """
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
rnn, head = nn.LSTM(2, 3, batch_first=FIRST, bidirectional=True), nn.Linear(6, 1)
lengths = torch.tensor(LENGTHS)
x = torch.rand(4, 6, 2)
for step in range(2):
    packed = pack_padded_sequence(x if FIRST else x.transpose(0, 1), lengths, batch_first=FIRST, enforce_sorted=False)
    packed, (h, c) = rnn(packed)
    out, sizes = pad_packed_sequence(packed, batch_first=FIRST)
    last = TAKEN  # taken
    head(last).pow(2).mean().backward()
"""


def found(taken: str, first: bool = True, lengths: str = "[6, 2, 4, 6]") -> list[list[int]]:
    source = PROGRAM.replace("TAKEN", taken).replace("FIRST", str(first)).replace("LENGTHS", lengths)
    answers = [one for one in build(recorded(source)).answers if one.code == "last-step-is-padding"]
    return [[cause.line - line_of(source, "# taken") for cause in one.causes] for one in answers]


@pytest.mark.parametrize(
    ("taken", "first"), [("out[:, -1]", True), ("out[:, -1, :]", True), ("out[-1]", False), ("out[-1, :, :]", False)]
)
def test_some_are_shorter(taken: str, first: bool) -> None:
    assert found(taken, first) == [[0]]


@pytest.mark.parametrize(
    ("taken", "first", "lengths"),
    [
        ("out[:, -1]", True, "[6, 6, 6, 6]"),
        ("out[:, 0]", True, "[6, 2, 4, 6]"),
        ("out[-1]", True, "[6, 2, 4, 6]"),
        ("out[torch.arange(4), sizes - 1]", True, "[6, 2, 4, 6]"),
        ("torch.cat([h[0], h[1]], 1) + 0 * out[:, -1].detach()", True, "[6, 2, 4, 6]"),
        ("out.sum(1)", True, "[6, 2, 4, 6]"),
    ],
)
def test_others(taken: str, first: bool, lengths: str) -> None:
    assert found(taken, first, lengths) == []
