"""Running commands in tests: without a time limit of their own, and without leaving a process when a test ends early.

pytest's limit for a test (see ``pyproject.toml``) raises in the test, and so does Ctrl-C: then the command is ended
with all that it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


def run(command: Sequence[str], *, check: bool = False, **options: Any) -> subprocess.CompletedProcess[Any]:
    """As :func:`subprocess.run`; output is captured, as text, unless the options say otherwise."""
    standard = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    given = options.pop("input", None)
    if given is not None:
        standard["stdin"] = subprocess.PIPE
    with started(command, **{**standard, **options}) as process:
        output, errors = process.communicate(given)
    done = subprocess.CompletedProcess(command, process.returncode, output, errors)
    if check:
        assert done.returncode == 0, f"{output}\n{errors}"
    return done


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A running command, which ends with the block, and with it all that it started if the block raises."""
    with subprocess.Popen(command, start_new_session=True, **options) as process:
        try:
            yield process
        except BaseException:
            end_all(process.pid)
            raise


def end_all(pid: int) -> None:
    """End a process, what it started, and what that started, also where one has left the group."""
    for number in (*_descendants(pid), pid):
        with suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # those whose parent is gone


def _descendants(pid: int) -> list[int]:
    """Found under ``/proc``; none where there is no such folder."""
    parents: dict[int, int] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            parents[int(file.parent.name)] = int(file.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]
