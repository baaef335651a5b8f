"""A job in a process of its own: what happens in there from the fork to the end."""

from __future__ import annotations

import atexit
import os
import pickle
import sys
import traceback
import weakref
from pathlib import Path
from typing import Any, NoReturn, Protocol

from gradscope.hosting.process import flush_quietly

OUTPUT = "output.txt"
JOB = "job.pickle"
FAULT = "fault.txt"
"""Left where gradscope itself failed."""


class Job(Protocol):
    """What a process does; it can be pickled."""

    def perform(self, folder: Path) -> int:
        """Do it, leave the results in the folder, and return the exit code."""


def run_job(job: Job, folder: Path) -> NoReturn:
    """Do a job, its output going to a file; the process ends here."""
    exit_at_once = os._exit
    status = 1
    try:
        _redirect(folder / OUTPUT)
        _disown_exit_functions()
        status = job.perform(folder)
    except BaseException:
        (folder / FAULT).write_text(traceback.format_exc())
    finally:
        for stream in (sys.stdout, sys.stderr):
            flush_quietly(stream)
        exit_at_once(status & 0xFF)


def _redirect(output: Path) -> None:
    """Input is empty; output goes to a file, also that of torch's C++ and of child processes."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdin = sys.__stdin__ = _stream(0, "r")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _stream(1, "w")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", buffering=1)  # type: ignore[misc]


def _stream(descriptor: int, mode: str, buffering: int = -1) -> Any:
    return open(descriptor, mode, buffering, encoding="utf-8", errors="backslashreplace", closefd=False)


def _disown_exit_functions() -> None:
    """What the parent has left to do when it ends (temporary folders to remove …) is none of a fork's business."""
    atexit._clear()
    own: Any = weakref.finalize
    own._registry.clear()
    own._registered_with_atexit = False


def main() -> NoReturn:
    """What a spawned process does."""
    folder = Path(sys.argv[1])
    run_job(pickle.loads((folder / JOB).read_bytes()), folder)


if __name__ == "__main__":
    main()
