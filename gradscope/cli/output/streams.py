"""Standard output while a program runs: where its own output goes, and where the result goes afterwards."""

from __future__ import annotations

import io
import os
import sys

_FIRST = 200
"""File descriptors of ours begin here, so that the program's own get the numbers that they would have."""


class ResultStream:
    """A stream to standard output that the program cannot close, redirect or mix with its own.

    Args:
        to_stderr: Move the program's standard output to standard error, also that of C code and of children: then
            standard output carries the result alone.
    """

    def __init__(self, *, to_stderr: bool) -> None:
        self.stream: io.TextIOWrapper | None = None
        """None where standard output is closed."""
        if sys.stdout is None:
            return
        descriptor = _duplicate(1)
        if descriptor is not None:
            encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
            raw = io.FileIO(descriptor, "w")
            self.stream = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace")
        if to_stderr:
            os.dup2(2 if sys.stderr is not None else os.open(os.devnull, os.O_WRONLY), 1)

    def forget(self) -> None:
        """After a broken pipe or on a full disk: what is still buffered must not raise when the interpreter ends."""
        if self.stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def _duplicate(descriptor: int) -> int | None:
    try:
        import fcntl

        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST)
    except ImportError:  # not a Unix
        return os.dup(descriptor)
    except OSError:  # closed
        return None
