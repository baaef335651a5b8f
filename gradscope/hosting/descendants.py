"""The processes that this one has started, and what those started: ended with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_PATIENCE = 2.0
"""Seconds from SIGTERM to SIGKILL: time for a recording to be completed."""


def end_descendants() -> None:
    """End them: by SIGTERM, and those that are still there a little later by SIGKILL."""
    found = list(_descendants())
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + _PATIENCE
    while any(map(_runs, found)) and time.monotonic() < until:
        time.sleep(0.02)
    for pid in found:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _descendants() -> Iterator[int]:
    """Found under ``/proc``; where there is no such folder, what ``multiprocessing`` has started."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    if not parents:
        yield from (child.pid for child in multiprocessing.active_children() if child.pid is not None)
        return
    own = {os.getpid()}
    while fresh := [pid for pid, parent in parents.items() if parent in own and pid not in own]:
        own.update(fresh)
        yield from fresh


def _runs(pid: int) -> bool:
    """Whether a process does something yet; one that has ended may be there until somebody asks how."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
