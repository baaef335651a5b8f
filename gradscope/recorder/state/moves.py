"""How ids of rows change where the rows of some periods of a program that repeats itself are taken out of a recording.

What is left reads as the recording of a program that ran so many periods less: later rows move up, and whatever
referred to a row that was taken out refers to the one in the same place of the last period before the gap.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_TYPES = {
    "b": torch.int8,
    "B": torch.uint8,
    "h": torch.int16,
    "H": torch.int16,
    "i": torch.int32,
    "q": torch.int64,
}
"""Of the columns' numbers; those of 16 bits are only compared."""


AFTER = 3
"""Periods that stay after a gap, at least."""


class Move(NamedTuple):
    """What becomes of one table's ids."""

    start: int
    """The first row that is taken out."""
    stop: int
    """The first one after it that stays."""
    period: int
    """Rows of one period; 0: the table has none in these."""

    def __call__(self, row: int) -> int:
        """The id that stands for a row from now on; NONE for NONE."""
        if row < self.start:
            return row
        if row >= self.stop:
            return row - (self.stop - self.start)
        return self.start - self.period + (row - self.start) % self.period

    def of_all(self, rows: Tensor) -> Tensor:
        """The same for many rows at once."""
        standing = self.start - self.period + (rows - self.start) % max(1, self.period)
        moved = torch.where(rows < self.stop, standing, rows - (self.stop - self.start))
        return torch.where(rows < self.start, rows, moved)

    def of_ends(self, ops: Tensor) -> Tensor:
        """For ops at which something ended that was there before the gap.

        It ended so many periods after it began: those that come after the gap now are as good as those that did.
        """
        last = self.start + (AFTER - 1) * self.period
        moved = torch.where(ops < self.stop, last + (ops - self.start) % self.period, ops - self.stop + self.start)
        return torch.where(ops < min(self.stop, last + self.period), ops, moved)


Moves = Mapping[str, Move]
"""By the table's name."""


def numbers(column: array[int], start: int = 0, stop: int | None = None) -> Tensor:
    """A copy of a stretch of a column, as 64-bit numbers."""
    count = (len(column) if stop is None else stop) - start
    if count <= 0:
        return torch.empty(0, dtype=torch.int64, device="cpu")
    found = torch.frombuffer(column, dtype=_TYPES[column.typecode], count=count, offset=start * column.itemsize)
    return found.to(torch.int64, copy=True)


def put_back(column: array[int], start: int, values: Tensor) -> None:
    """Write numbers over a stretch of a column."""
    if len(values):
        kept = torch.frombuffer(
            column, dtype=_TYPES[column.typecode], count=len(values), offset=start * column.itemsize
        )
        kept.copy_(values)


def change_from(column: array[int], stop: int, least: int, change: Callable[[Tensor], Tensor]) -> None:
    """Change the numbers before a position of a column of 32 bits that are not below a least one, in place."""
    if stop:
        rows = torch.frombuffer(column, dtype=torch.int32, count=stop)
        at = (rows >= least).nonzero().flatten()
        rows[at] = change(rows[at].to(torch.int64)).to(torch.int32)
