"""Data that a function normalises in place by its own statistics, which others then find normalised."""

from __future__ import annotations

import pytest

from gradscope.analysis.report_builder import build
from gradscope.analysis.report_model import Answer
from tests.analysis.building import line_of, recorded

FORECASTER = """
import torch
from torch import nn
torch.manual_seed(0)
series = 4 * torch.arange(512.).sin() + 10
class Reversible(nn.Module):
    def normalise(self, x):
        self.mean = x.mean(dim=1, keepdim=True)
        self.scale = ((x - self.mean).pow(2).mean(dim=1, keepdim=True) + 1e-5).sqrt()
        {change}
        return x
    def restore(self, y):
        return {restore}
revin, net = Reversible(), nn.Linear(24, 8)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
rows = series.view(-1, 32)
for epoch in range({epochs}):
    for first in range(0, 16, 8):
        {read}
        loss = (revin.restore(net(revin.normalise(past))) - future).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
USUAL = {
    "change": "x -= self.mean; x /= self.scale  # written",
    "restore": "y * self.scale + self.mean",
    "epochs": 3,
    "read": "past, future = rows[first:first + 8, :24], rows[first:first + 8, 24:]",
}
WINDOWS = """
import torch
from torch import nn
series = torch.arange(100.) + torch.randn(100)
net = nn.Linear(16, 4)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
def standardize(w):
    w.sub_(w.mean()).div_(w.std())  # written
    return w
for w in {windows}:
    loss = (net(standardize(w[:16])) - w[16:]).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(source: str) -> list[Answer]:
    return [answer for answer in build(recorded(source)).answers if answer.code == "data-written-again"]


@pytest.mark.parametrize(
    "change",
    [
        "x -= self.mean; x /= self.scale",
        "x.sub_(self.mean).div_(self.scale)",
        "x[:] = (x - self.mean) / self.scale",
        "x.copy_((x - self.mean) / self.scale)",
    ],
)
def test_statistics_that_are_used_to_undo_it_are_those_of_normalised_data(change: str) -> None:
    source = FORECASTER.format(**USUAL | {"change": f"{change}  # written"})
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# written")
    assert "self.mean" in answer.text
    assert "2 places were written so, up to 3 times" in answer.text


@pytest.mark.parametrize(
    "changed",
    [
        {"change": "x = (x - self.mean) / self.scale"},
        {"read": "past, future = rows[first:first + 8, :24].clone(), rows[first:first + 8, 24:]"},
        {"read": "past, future = rows[torch.arange(first, first + 8), :24], rows[first:first + 8, 24:]"},
        # What is normalised already stays as it is, and nothing else is computed of the statistics.
        {"restore": "y"},
        {"epochs": 1},
        # Restored in place: what is kept is as it was.
        {
            "restore": "(x0.mul_(self.scale).add_(self.mean), y * self.scale + self.mean)[1]",
            "change": "global x0; x0 = x; x -= self.mean; x /= self.scale",
        },
        # Filled anew each time.
        {"read": "past, future = buffer.copy_(rows[first:first + 8, :24]), rows[first:first + 8, 24:]"},
    ],
)
def test_what_is_not_kept_or_not_used_is_no_data_written_again(changed: dict[str, object]) -> None:
    source = FORECASTER.format(**USUAL | changed).replace("\nrows =", "\nbuffer = torch.empty(8, 24)\nrows =")
    assert found(source) == []


def test_windows_that_overlap_are_normalised_by_one_another() -> None:
    source = WINDOWS.format(windows="series.unfold(0, 20, 5)")
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# written")
    assert "overlap" in answer.text


@pytest.mark.parametrize("windows", ["series.unfold(0, 20, 5).clone()", "series.unfold(0, 20, 20)"])
def test_windows_apart_are_not(windows: str) -> None:
    assert found(WINDOWS.format(windows=windows)) == []


TABLE = """
import torch
from torch import nn
series = torch.arange(100.) + torch.randn(100)
def standardized(size=20):
    windows = series.unfold(0, size, {hop}){copied}  # made
    for window in windows:
        window -= window.mean()  # written
        window /= window.std()
    return windows
table, net = standardized(), nn.Linear(16, 4)
optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
for epoch in range(3):
    for rows in torch.randperm(len(table)).split(4):
        loss = (net(table[rows][:, :16]) - table[rows][:, 16:]).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""


def test_windows_that_are_normalised_once_and_read_as_a_table() -> None:
    source = TABLE.format(hop=5, copied="")
    (answer,) = found(source)
    assert answer.causes[0].line == line_of(source, "# written")
    assert line_of(source, "# made") in [cause.line for cause in answer.causes]
    assert "times" not in answer.text
    assert found(TABLE.format(hop=5, copied=".clone()")) == []
    assert found(TABLE.format(hop=20, copied="")) == []


def test_a_memory_that_is_updated_from_itself_is_not_normalised() -> None:
    """Rows of a recurrent state: what is put there was computed from a part of it."""
    source = """
import torch
from torch import nn
cell, score, memory = nn.GRUCell(4, 4), nn.Linear(4, 1), torch.zeros(10, 4)
optimizer = torch.optim.SGD([*cell.parameters(), *score.parameters()], lr=0.1)
def run(nodes):
    new = cell(torch.randn(3, 4), memory[nodes].clone())
    memory[nodes] = new.detach()
    return score(new)
for step in range(8):
    optimizer.zero_grad()
    run(torch.randperm(10)[:3]).square().mean().backward()
    optimizer.step()
"""
    assert all(one.code != "data-written-again" for one in build(recorded(source)).answers)
