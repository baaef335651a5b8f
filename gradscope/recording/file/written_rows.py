"""What of a recording is in its file already, and writing the rest."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from itertools import count
from typing import Any

from gradscope.recording.file.late_columns import LateColumn
from gradscope.recording.file.run_info import info_to_json
from gradscope.recording.file.schema_sql import SIDE_TABLES, insert_sql
from gradscope.recording.file.sqlite_values import to_sqlite_numbers, to_sqlite_text
from gradscope.recording.model import Recording
from gradscope.recording.tables import Table


class WrittenRows:
    """How far a file is; each call of :meth:`write` brings it up to the recording."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        """Rows in the file by table; texts too."""
        self._side_rows: dict[str, list[tuple[Any, ...]]] = {}
        """Rows in the file of the tables whose rows may change as a whole."""
        self._late = [
            LateColumn(name, column)
            for name, table in Recording().tables.items()
            for column, declared in table.declared.items()
            if declared.is_late
        ]

    def write(self, connection: sqlite3.Connection, recording: Recording, *, at_end: bool) -> None:
        """Write rows that are new, and those that have changed, in one transaction.

        Where it fails, nothing of it is in the file and the next call writes it.

        Args:
            connection: The file, its tables created.
            recording: The recording; it may be growing in another thread.
            at_end: Leave nothing out of date.
        """
        counts = {name: min(map(len, table.columns.values())) for name, table in recording.tables.items()}
        counts["strings"] = len(recording.strings)
        side_rows = _side_rows(recording)
        connection.execute("BEGIN")
        try:
            rewritten = self._take_back(connection, recording)
            self._write_tables(connection, recording, counts, at_end)
            texts = recording.strings[self._counts.get("strings", 0) : counts["strings"]]
            _write_side_rows(connection, "strings", zip(count(self._counts.get("strings", 0)), texts))
            for name, rows in side_rows.items():
                known = self._side_rows.get(name, [])
                changed = ((at, *row) for at, row in enumerate(rows) if at >= len(known) or known[at] != row)
                _write_side_rows(connection, name, changed)
            connection.execute("COMMIT")
        except BaseException:
            for late in self._late:
                late.forget()
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._counts, self._side_rows = counts, side_rows
        for table in rewritten:
            table.rewritten = None
        for late in self._late:
            late.grow(recording.tables[late.table].column(late.name), counts[late.table])

    def _take_back(self, connection: sqlite3.Connection, recording: Recording) -> list[Table[Any]]:
        """Take rows out of the file that are others now, and return the tables that have such."""
        tables = {name: table for name, table in recording.tables.items() if table.rewritten is not None}
        for name, table in tables.items():
            first = min(self._counts.get(name, 0), table.rewritten or 0)
            connection.execute(f'DELETE FROM "{name}" WHERE id >= ?', (first,))
            self._counts[name] = first
            for late in self._late:
                if late.table == name:
                    late.shrink(first)
        return list(tables.values())

    def _write_tables(
        self, connection: sqlite3.Connection, recording: Recording, counts: dict[str, int], at_end: bool
    ) -> None:
        for late in self._late:
            late.update(connection, recording.tables[late.table].column(late.name), at_end=at_end)
        for name, table in recording.tables.items():
            start, stop = self._counts.get(name, 0), counts[name]
            if start == stop:
                continue
            columns = [to_sqlite_numbers(column[start:stop]) for column in table.columns.values()]
            rows = zip(range(start, stop), *columns, strict=True)
            connection.executemany(insert_sql(name, tuple(table.columns)), rows)


def _write_side_rows(connection: sqlite3.Connection, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
    stored = (tuple(to_sqlite_text(value) if isinstance(value, str) else value for value in row) for row in rows)
    connection.executemany(insert_sql(name, SIDE_TABLES[name], replaces=True), stored)


def _side_rows(recording: Recording) -> dict[str, list[tuple[Any, ...]]]:
    return {
        "meta": [(key, json.dumps(value)) for key, value in info_to_json(recording.info).items()],
        "files": [(file.path, file.name, file.text, int(file.is_user)) for file in recording.files],
        "faults": [(fault.where, fault.traceback, fault.count) for fault in recording.faults],
        "threads": [(name,) for name in recording.threads],
    }
