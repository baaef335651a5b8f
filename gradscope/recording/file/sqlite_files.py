"""Opening databases, and the files that SQLite keeps beside them."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from gradscope.errors import RecordingError
from gradscope.recording.file.write_errors import explanation

COMPANIONS = ("-wal", "-shm", "-journal")
"""Ends of the names of files that SQLite keeps beside a database while it is written."""


def connect(path: Path, query: str) -> sqlite3.Connection:
    """Open a file; transactions are begun and ended by hand.

    Args:
        path: The file.
        query: What the address says to SQLite: ``mode=ro``, ``mode=rw``.
    """
    address = f"file:{quote(os.fsencode(path.absolute()))}?{query}"
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


@contextmanager
def open_for_writing(path: Path, journal: str) -> Iterator[sqlite3.Connection]:
    """A connection that survives the death of the process, though not that of the machine.

    Args:
        path: The file; it must exist.
        journal: SQLite's journal mode.
    """
    connection = connect(path, "mode=rw")
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute(f"PRAGMA journal_mode = {journal}")
        yield connection
    finally:
        connection.close()


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what is wrong where a file cannot be written.

    Raises:
        RecordingError: Instead of what the system and SQLite raise.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise RecordingError(*explanation(f"cannot write the recording {path}", path, error)) from error


def has_unmerged_rows(path: Path) -> bool:
    """Whether the last rows are in a second file (``-wal``): a program was killed meanwhile, or the disk was full."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size > 0
    except OSError:
        return False


def make_plain(path: Path) -> None:
    """Leave one file where the last rows could not be written, unless there are rows that cannot be put into it."""
    with suppress(sqlite3.Error), open_for_writing(path, journal="DELETE"):
        pass
    if not has_unmerged_rows(path):
        remove_companions(path)


def remove_companions(path: Path) -> None:
    """Remove what SQLite left beside a file that is about to be replaced: it would be taken for the new one's."""
    for end in COMPANIONS:
        path.with_name(path.name + end).unlink(missing_ok=True)
