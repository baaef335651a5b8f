"""Is a file a recording at all, whole, and one that this version understands?"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gradscope.errors import RecordingError
from gradscope.recording.file.schema_sql import APPLICATION_ID, SIDE_TABLES
from gradscope.recording.file.sqlite_files import connect, has_unmerged_rows
from gradscope.recording.model import SCHEMA_VERSION, Recording
from gradscope.version import VERSION

_MAGIC = b"SQLite format 3\0"
_HEADER = 100
_AGAIN = "record the program again: gradscope run -o run.gradscope TARGET"
_LONGEST_REASON = 200

DAMAGE = (sqlite3.Error, ValueError, TypeError, OverflowError, RecursionError)
"""What reading a damaged file raises."""


def damaged(path: Path, error: Exception) -> RecordingError:
    """What to raise for it: what is wrong, on one line; SQLite quotes a text that it cannot decode, line by line."""
    first, *_ = str(error).partition(" with text ")[0].splitlines() or [""]
    reason = first[:_LONGEST_REASON] or type(error).__name__
    return RecordingError(f"{path} is damaged: {reason}", "record the program again")


def check_header(path: Path) -> None:
    """Look at a file's first bytes before SQLite does.

    Raises:
        RecordingError: It cannot be read, or is no recording, or one of a newer version.
    """
    try:
        if path.is_dir():
            raise RecordingError(f"{path} is a folder, not a recording", "name a *.gradscope file")
        if path.exists() and not path.is_file():
            raise RecordingError(f"{path} is no regular file", "name a *.gradscope file")
        with path.open("rb") as stream:
            header = stream.read(_HEADER)
    except FileNotFoundError as error:
        raise RecordingError(f"there is no file {path}", _AGAIN) from error
    except (OSError, ValueError) as error:
        raise RecordingError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not header:
        raise RecordingError(f"{path} is empty", _AGAIN)
    if not _MAGIC.startswith(header[: len(_MAGIC)]):
        raise RecordingError(f"{path} is not a gradscope recording", _hint_for(path))
    if len(header) < _HEADER:
        raise RecordingError(f"{path} is cut short", _AGAIN)
    if int.from_bytes(header[68:72], "big") != APPLICATION_ID:
        raise RecordingError(f"{path} is a SQLite database, but not a gradscope recording", "name a *.gradscope file")
    if has_unmerged_rows(path):
        return  # the header may be ahead of the file
    size, expected = path.stat().st_size, _size_by_header(header)
    if size < expected:
        raise RecordingError(f"{path} is cut short: {size} of {expected} bytes are there", _AGAIN)


def _size_by_header(header: bytes) -> int:
    """Bytes of the whole file; SQLite itself does not miss the end of the last page."""
    page = int.from_bytes(header[16:18], "big")
    return (65536 if page == 1 else page) * int.from_bytes(header[28:32], "big")


def _hint_for(path: Path) -> str:
    return f"to run it: gradscope run {path}" if path.suffix in (".py", ".md", ".txt") else "name a *.gradscope file"


@contextmanager
def open_for_reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that can change nothing and trusts nothing in the file.

    A recording whose program was killed has its last rows in a second file (``-wal``), which SQLite reads as well.
    """
    connection = connect(path, "mode=ro")
    try:
        try:
            _distrust(connection)
        except sqlite3.OperationalError as error:
            if has_unmerged_rows(path):
                raise RecordingError(
                    f"cannot read {path}: {error}, and its last rows are in {path.name}-wal",
                    "make room on the disk, or copy both files to a folder that you may write to",
                ) from error
            # It was left by a killed program in a folder that cannot be written: there is nothing to wait for.
            connection.close()
            connection = connect(path, "immutable=1")
            _distrust(connection)
        yield connection
    finally:
        connection.close()


def _distrust(connection: sqlite3.Connection) -> None:
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "ignore_check_constraints = ON", "query_only = ON"):
        connection.execute(f"PRAGMA {setting}")
    connection.execute("BEGIN")  # all is read as it is now, whatever a running program adds meanwhile
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def check_tables(connection: sqlite3.Connection, path: Path, recording: Recording) -> None:
    """Check the version, that every table is there as expected, and that all pages are whole.

    Raises:
        RecordingError: It was written by a newer gradscope.
        ValueError: It is damaged.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise RecordingError(
            f"{path} was written by a newer gradscope{_writer(connection)}, in format {version};"
            f" gradscope {VERSION} reads formats up to {SCHEMA_VERSION}",
            "upgrade gradscope: pip install -U gradscope",
        )
    if version < SCHEMA_VERSION:
        raise RecordingError(f"{path} was written by an older gradscope, in format {version}", _AGAIN)
    expected = SIDE_TABLES | {name: tuple(table.columns) for name, table in recording.tables.items()}
    found = dict(connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
    for name, columns in expected.items():
        if not isinstance(found.get(name), str) or not found[name].startswith("CREATE TABLE "):
            raise ValueError(f"it has no table {name}")
        plain = {row[1] for row in connection.execute(f'PRAGMA table_xinfo("{name}")') if not row[6]}
        if missing := {"id", *columns} - plain:
            raise ValueError(f"its table {name} has no column {', '.join(sorted(missing))}")
    (result,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if result != "ok":
        raise ValueError(str(result).splitlines()[-1])


def _writer(connection: sqlite3.Connection) -> str:
    """The version of gradscope that wrote the file, where it says so."""
    try:
        (text,) = connection.execute("SELECT value FROM meta WHERE key = 'gradscope'").fetchone()
        found = json.loads(text)
    except (sqlite3.Error, ValueError, TypeError):
        return ""
    return f" {found}" if isinstance(found, str) and found else ""
