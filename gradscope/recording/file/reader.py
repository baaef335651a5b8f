"""Reading a recording from its file, which may be damaged, foreign, or made to do harm.

The file is opened read-only, nothing in it is executed or trusted, and each number is checked before anything indexes
with it.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from gradscope.recording.file.content_checks import check_content
from gradscope.recording.file.file_checks import DAMAGE, check_header, check_tables, damaged, open_for_reading
from gradscope.recording.file.run_info import info_from_json
from gradscope.recording.file.schema_sql import SIDE_NUMBERS, SIDE_TABLES
from gradscope.recording.file.sqlite_values import from_sqlite_numbers, from_sqlite_text
from gradscope.recording.model import Fault, Recording, SourceFile
from gradscope.recording.tables import Table

_ROWS_AT_ONCE = 2048
"""Few enough to stay in the processor's cache: twice as fast as all at once."""


def load(path: str | os.PathLike[str]) -> Recording:
    """Read a recording from a file.

    Raises:
        RecordingError: There is no such file, it is no recording, is damaged, or was written by a newer gradscope.
    """
    file = Path(path)
    check_header(file)
    try:
        with open_for_reading(file) as connection:
            recording = Recording()
            check_tables(connection, file, recording)
            _read(connection, recording)
        check_content(recording)
    except DAMAGE as error:
        raise damaged(file, error) from error
    return recording


def _read(connection: sqlite3.Connection, recording: Recording) -> None:
    texts = ((key, json.loads(value)) for key, value in _side_rows(connection, "meta"))
    recording.info = info_from_json(dict(texts))
    recording.strings = [text for (text,) in _side_rows(connection, "strings")]
    recording.files = [
        SourceFile(path, name, text, bool(own)) for path, name, text, own in _side_rows(connection, "files")
    ]
    recording.faults = [Fault(*row) for row in _side_rows(connection, "faults")]
    recording.threads = [name for (name,) in _side_rows(connection, "threads")]
    for name, table in recording.tables.items():
        _read_table(connection, name, table)


def _side_rows(connection: sqlite3.Connection, name: str) -> Iterator[tuple[Any, ...]]:
    columns = ", ".join(f'"{column}"' for column in SIDE_TABLES[name])
    readers = [_number if column in SIDE_NUMBERS else from_sqlite_text for column in SIDE_TABLES[name]]
    for at, (row_id, *values) in enumerate(connection.execute(f'SELECT id, {columns} FROM "{name}" ORDER BY id')):
        if row_id != at:
            raise ValueError(f"row {at} of {name} is missing")
        yield tuple(read(value) for read, value in zip(readers, values, strict=True))


def _number(stored: object) -> int:
    if not isinstance(stored, int):
        raise ValueError(f"a number expected, not {type(stored).__name__}")
    return stored


def _read_table(connection: sqlite3.Connection, table_name: str, table: Table[Any]) -> None:
    columns = ", ".join(f'"{column}"' for column in table.columns)
    width = len(table.columns)
    cursor = connection.execute(f'SELECT {columns} FROM "{table_name}" ORDER BY id')
    while rows := cursor.fetchmany(_ROWS_AT_ONCE):
        values = list(chain.from_iterable(rows))
        for position, (name, column) in enumerate(table.declared.items()):
            table.extend_column(name, from_sqlite_numbers(values[position::width], column.typecode))
    first, last = (
        connection.execute(f'SELECT {which}(id) FROM "{table_name}"').fetchone()[0] for which in ("min", "max")
    )
    if (first, last) != ((0, len(table) - 1) if len(table) else (None, None)):
        raise ValueError(f"rows of {table_name} are missing")
