"""Two runs that are told to write one file: each keeps a file of its own."""

from __future__ import annotations

import json
import os
import sqlite3
from itertools import count
from pathlib import Path

from gradscope.recording.file.schema_sql import APPLICATION_ID
from gradscope.recording.file.sqlite_files import connect
from gradscope.recording.model import Outcome


def free_name(path: Path) -> Path:
    """A name beside a file that nothing has: ``run.2.gradscope`` for ``run.gradscope``."""
    names = (path.with_name(f"{path.stem}.{number}{path.suffix}") for number in count(2))
    return next(name for name in names if not name.exists())


def identity_of(path: Path) -> tuple[int, int] | None:
    """What tells a file from another that takes its name; None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_being_written(path: Path) -> bool:
    """Whether another run, which is still under way on this machine, writes a recording to a file."""
    try:
        with path.open("rb") as stream:
            if int.from_bytes(stream.read(100)[68:72], "big") != APPLICATION_ID:
                return False
        connection = connect(path, "mode=ro")
        try:
            found = dict(connection.execute("SELECT key, value FROM meta WHERE key IN ('outcome', 'process')"))
        finally:
            connection.close()
        process, outcome = json.loads(found["process"]), json.loads(found["outcome"])
        is_running = isinstance(process, int) and process > 0 and outcome["kind"] == Outcome().kind
    except (OSError, sqlite3.Error, ValueError, TypeError, KeyError):
        return False
    return is_running and process != os.getpid() and _lives(process)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True
