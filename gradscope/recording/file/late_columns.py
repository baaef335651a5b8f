"""Columns whose values change after their rows were written: a tensor dies, an op raises or runs more calls.

A recording does not say which rows have changed. They are found by a digest of each stretch of rows, so that a change
costs one stretch and nothing is kept a row.
"""

from __future__ import annotations

import sqlite3
from array import array

_STRETCH = 4096
"""Rows under one digest."""
_GROWTH = 20
"""While the program runs, a column is looked through when it has grown by a twentieth since the last time: all looks
together cost in proportion to the number of rows, and a killed run's file is at most a twentieth behind."""


class LateColumn:
    """Keeps one column of a file up to date.

    Args:
        table: Name of the table.
        name: Name of the column.
    """

    def __init__(self, table: str, name: str) -> None:
        self.table = table
        self.name = name
        self._count = 0
        self._digests: list[int] = []
        self._next_look = 0

    def update(self, connection: sqlite3.Connection, column: array[int], *, at_end: bool) -> None:
        """Write what has changed in the rows that are in the file; all of it ``at_end``, else when it is time."""
        first = self._count // _STRETCH  # it is about to grow, so it must be up to date
        if at_end or self._count >= self._next_look:
            first = 0
            self._next_look = self._count + self._count // _GROWTH
        for stretch in range(first, len(self._digests)):
            rows = self._rows(column, stretch)
            if self._digests[stretch] != _digest(rows):
                self._digests[stretch] = _digest(rows)
                self._write_changed(connection, stretch * _STRETCH, rows)

    def shrink(self, count: int) -> None:
        """The file has only ``count`` rows any more."""
        if count < self._count:
            self._count = count
            del self._digests[-(-count // _STRETCH) :]
            if count % _STRETCH:
                self._digests[-1] = -1  # of fewer rows than it was
            self._next_look = min(self._next_look, count)

    def grow(self, column: array[int], count: int) -> None:
        """The file has ``count`` rows now; :meth:`update` was called before they were written."""
        first, self._count = self._count // _STRETCH, count
        stretches = range(first, -(-count // _STRETCH))
        self._digests[first:] = [_digest(self._rows(column, stretch)) for stretch in stretches]

    def forget(self) -> None:
        """What :meth:`update` wrote is not in the file after all: compare all rows the next time."""
        self._digests = [-1] * len(self._digests)
        self._next_look = 0

    def _rows(self, column: array[int], stretch: int) -> array[int]:
        return column[stretch * _STRETCH : min((stretch + 1) * _STRETCH, self._count)]

    def _write_changed(self, connection: sqlite3.Connection, start: int, rows: array[int]) -> None:
        select = f'SELECT id, "{self.name}" FROM "{self.table}" WHERE id >= ? AND id < ? ORDER BY id'
        stored = connection.execute(select, (start, start + len(rows)))
        changed = [(rows[row - start], row) for row, value in stored if value != rows[row - start]]
        connection.executemany(f'UPDATE "{self.table}" SET "{self.name}" = ? WHERE id = ?', changed)


def _digest(rows: array[int]) -> int:
    return hash(rows.tobytes())
