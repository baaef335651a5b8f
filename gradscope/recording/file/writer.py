"""Writing recordings: at once, or while the program still runs."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from gradscope.errors import RecordingError
from gradscope.recording.file.own_file import free_name, identity_of, is_being_written
from gradscope.recording.file.replaced_file import replaced_file
from gradscope.recording.file.schema_sql import create_schema
from gradscope.recording.file.sqlite_files import (
    explained,
    has_unmerged_rows,
    make_plain,
    open_for_writing,
    remove_companions,
)
from gradscope.recording.file.written_rows import WrittenRows
from gradscope.recording.model import Recording


def save(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a recording to a file, in the place of what was there.

    The file appears whole or not at all: where writing fails, one that was there stays as it was.

    Raises:
        RecordingError: The file cannot be written there.
    """
    target = _target(path)
    with explained(target), replaced_file(target) as new:
        _create(new, recording, journal="OFF")
        remove_companions(target)


class RecordingWriter:
    """Writes a recording to a file while the program runs.

    The file is there from the start and can be loaded at any time, also after the process was killed: then it holds
    what had been appended, and its outcome is ``running``. Between two calls nothing is open, so a program may fork,
    change folders and close every file.

    Args:
        path: The file; what was there is replaced, unless another run is writing it: then this one takes another name.

    Raises:
        RecordingError: The file cannot be written there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.wanted = _target(path)
        """Where the recording was to go."""
        self.path = free_name(self.wanted) if is_being_written(self.wanted) else self.wanted
        """Where it is."""
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._rows = WrittenRows()
        empty = Recording()
        empty.info.process = self._process
        with explained(self.path), replaced_file(self.path) as new:
            _create(new, empty, journal="WAL")
            remove_companions(self.path)
        self._file = identity_of(self.path)

    def append(self, recording: Recording) -> None:
        """Write what is new since the last call. Does nothing in a forked child, and while another thread appends.

        Raises:
            RecordingError: It could not be written; the file holds what it held, and the next call tries again.
        """
        if os.getpid() != self._process or not self._lock.acquire(blocking=False):
            return
        try:
            self._write(recording, at_end=False)
        finally:
            self._lock.release()

    def close(self, recording: Recording) -> None:
        """Write all that is not in the file, or has changed, and make it one plain file.

        Raises:
            RecordingError: It could not be written.
        """
        if os.getpid() != self._process:
            return
        with self._lock:
            self._write(recording, at_end=True)

    def _write(self, recording: Recording, *, at_end: bool) -> None:
        if identity_of(self.path) not in (self._file, None):  # another run has put its own there
            self.path = free_name(self.wanted)
            self._begin()
        try:
            with explained(self.path), open_for_writing(self.path, journal="WAL") as connection:
                self._rows.write(connection, recording, at_end=at_end)
                if at_end:
                    connection.execute("PRAGMA journal_mode = DELETE")
        except RecordingError:
            if at_end:
                make_plain(self.path)
            raise


def _create(path: Path, recording: Recording, journal: str) -> None:
    try:
        with open_for_writing(path, journal) as connection:
            create_schema(connection, recording)
            WrittenRows().write(connection, recording, at_end=True)
        if has_unmerged_rows(path):  # of a disk that became full when SQLite closed the file it says nothing
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        remove_companions(path)
        raise


def _target(path: str | os.PathLike[str]) -> Path:
    """The file itself: a link is followed, so that it stays one."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        what = "folder" if target.is_dir() else "device or pipe"
        raise RecordingError(f"cannot write the recording {path}: it is a {what}", "name a file: -o run.gradscope")
    return target
