"""Rows of a table grouped by a column."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from itertools import islice
from operator import le
from typing import Any

from gradscope.recording.tables import Table


class SortedRows:
    """Rows of a table grouped by one column.

    Tables are appended to in the order of that column nearly always: then nothing is copied, and a group is found by
    bisection.

    Args:
        table: The table.
        key: The column to group by.
        value: The column that :meth:`of` gives; empty for row ids.
    """

    def __init__(self, table: Table[Any], key: str, value: str) -> None:
        keys = table.column(key)
        values = table.column(value) if value else array("i", range(len(keys)))
        if not all(map(le, keys, islice(keys, 1, None))):
            order = sorted(range(len(keys)), key=keys.__getitem__)
            keys = array(keys.typecode, map(keys.__getitem__, order))
            values = array(values.typecode, map(values.__getitem__, order))
        self.keys = keys
        self.values = values

    def of(self, key: int) -> array[int]:
        """Values of one group, in the order in which they were appended."""
        start = bisect_left(self.keys, key)
        return self.values[start : bisect_right(self.keys, key, start)]

    def starts(self, count: int) -> array[int]:
        """Where each of ``count`` groups starts, and at the end the number of rows."""
        starts = array("i", bytes(4 * (count + 1)))
        for key in self.keys:
            if 0 <= key < count:
                starts[key + 1] += 1
        total = 0
        for group in range(count + 1):
            total += starts[group]
            starts[group] = total
        return starts
