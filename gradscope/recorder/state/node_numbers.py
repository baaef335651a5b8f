"""Rows of nodes by their sequence numbers, of a program that repeats itself: kept once for what comes again.

Each node that a thread makes has a number, and any of them may still live: a loop of days makes thousands of millions.
Those of periods that were taken out of the recording (:mod:`..repetition`) have the rows of the period that stands for
them, so that their rows repeat.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

import torch
from torch import Tensor

from gradscope.recorder.state.moves import Move, change_from, numbers
from gradscope.recording.tables import NONE

_LEAST = 4
"""Times that rows repeat, from which on they are kept once."""


class OlderNumbers:
    """The rows of nodes up to a number, in stretches whose rows repeat."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._rows: list[array[int]] = []
        self._highest = NONE

    def row(self, number: int) -> int:
        """The row of a node by its number, or NONE."""
        at = bisect_right(self._starts, number) - 1
        if at < 0 or number >= self._stops[at]:
            return NONE
        rows = self._rows[at]
        return rows[(number - self._starts[at]) % len(rows)]

    def move(self, nodes: Move) -> None:
        """Know nodes by their new rows."""
        if self._highest >= nodes.start:
            for rows in self._rows:
                change_from(rows, len(rows), nodes.start, nodes.of_all)
            self._highest = max(map(max, self._rows))

    def add(self, start: int, rows: array[int]) -> None:
        """Add the rows of the numbers from one on, which come after all that were added before."""
        if not rows:
            return
        values = numbers(rows)
        self._highest = max(self._highest, int(values.max()))
        if self._goes_on(start, values):
            self._stops[-1] += len(rows)
            return
        period, since = _repeated(values)
        if since:
            self._put(start, start + since, rows[:since])
        if period:
            self._put(start + since, start + len(rows), rows[since : since + period])

    def _put(self, start: int, stop: int, rows: array[int]) -> None:
        self._starts.append(start)
        self._stops.append(stop)
        self._rows.append(rows)

    def _goes_on(self, start: int, values: Tensor) -> bool:
        """Whether some numbers' rows go on with the last stretch."""
        if not self._stops or self._stops[-1] != start:
            return False
        last = numbers(self._rows[-1])
        return torch.equal(
            last[(torch.arange(len(values), device="cpu") + start - self._starts[-1]) % len(last)], values
        )


def _repeated(values: Tensor) -> tuple[int, int]:
    """After how many rows they come again up to the end, and from which one on; 0 and all where none do."""
    known = (values != NONE).nonzero()
    if not len(known):
        return 1, 0
    last = int(known[-1])
    before = (values[:last] == values[last]).nonzero()
    if not len(before):
        return 0, len(values)
    period = last - int(before[-1])
    differ = (values[period:] != values[:-period]).nonzero()
    since = int(differ[-1]) + 1 if len(differ) else 0
    return (period, since) if len(values) - since >= _LEAST * period else (0, len(values))
