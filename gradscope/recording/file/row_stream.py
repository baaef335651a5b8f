"""Reading a recording's rows a batch at a time, with texts and names in the place of ids: none is ever held whole."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from gradscope.recording.file.file_checks import DAMAGE, check_header, check_tables, damaged, open_for_reading
from gradscope.recording.file.run_info import info_from_json
from gradscope.recording.file.schema_sql import ShownColumn, select_sql
from gradscope.recording.model import Recording, RunInfo

Rows = list[tuple[object, ...]]


class RowStream:
    """An open recording.

    Args:
        connection: Its file.
        path: For what is said.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        self.info = self._read_info()
        """What was run."""

    def _read_info(self) -> RunInfo:
        found = self._connection.execute("SELECT key, value FROM meta")
        return info_from_json({key: json.loads(value) for key, value in found})

    def rows(self, table: str, columns: Mapping[str, ShownColumn], at_once: int) -> Iterator[Rows]:
        """The rows of a table, in batches.

        Raises:
            RecordingError: The file is damaged.
        """
        with _damage_explained(self._path):
            self._check_ids(table)
            cursor = self._connection.execute(f"{select_sql(table, columns)} ORDER BY t.id")
            while batch := cursor.fetchmany(at_once):
                yield batch

    def _check_ids(self, table: str) -> None:
        count, first, last = self._connection.execute(f'SELECT count(*), min(id), max(id) FROM "{table}"').fetchone()
        if count and (first, last) != (0, count - 1):
            raise ValueError(f"rows of {table} are missing")


@contextmanager
def row_stream(path: str | os.PathLike[str]) -> Iterator[RowStream]:
    """Open a recording to be read in batches; what is wrong in the block, an error of the file included, is explained.

    Raises:
        RecordingError: There is no such file, it is no recording, is damaged, or was written by a newer gradscope.
    """
    file = Path(path)
    check_header(file)
    with _damage_explained(file), open_for_reading(file) as connection:
        check_tables(connection, file, Recording())
        stream = RowStream(connection, file)
        yield stream


@contextmanager
def _damage_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGE as error:
        raise damaged(path, error) from error
