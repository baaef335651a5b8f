"""Jobs run side by side, each in a process of its own: none can disturb another, whatever it does.

torch is imported once; then one fork a job. Where there is no fork, each process is a new interpreter.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, TypeVar

from gradscope.hosting.ending_signals import end_at_signals, raising_at_signals
from gradscope.isolated.job_output import prints_too_much
from gradscope.isolated.job_process import FAULT, JOB, Job, run_job

ResultT = TypeVar("ResultT")

_PAUSE = 0.004
"""Seconds between two looks at the processes."""

Ending = str | int
"""``timeout``, ``output`` (it printed too much), or what a process ended with: its exit code, or the negative number of
a signal."""


class ChildProcess(Protocol):
    """A running job."""

    def poll(self) -> int | None:
        """Its exit code once it is over, as :meth:`subprocess.Popen.poll`."""

    def kill(self) -> None:
        """End it and what it started."""


class Forked:
    """A fork of this process."""

    def __init__(self, job: Job, folder: Path) -> None:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        self._code: int | None = None
        # An interrupt during a fork would be raised in a hook of the fork's, where Python only says so and goes on.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        self._pid = os.fork()
        if self._pid == 0:
            end_at_signals()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.setsid()
            run_job(job, folder)
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        except BaseException:
            self.kill()
            raise

    def poll(self) -> int | None:
        """Its exit code once it is over."""
        if self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def kill(self) -> None:
        """End it and what it started."""
        _kill_group(self._pid)
        if self._code is None:
            os.kill(self._pid, signal.SIGKILL)  # it may not have had the time to become a group
            os.waitpid(self._pid, 0)
            self._code = -signal.SIGKILL


class Spawned:
    """A new interpreter."""

    def __init__(self, job: Job, folder: Path) -> None:
        (folder / JOB).write_bytes(pickle.dumps(job))
        command = [sys.executable, "-m", "gradscope.isolated.job_process", str(folder)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def poll(self) -> int | None:
        """Its exit code once it is over."""
        return self._process.poll()

    def kill(self) -> None:
        """End it and what it started."""
        _kill_group(self._process.pid)
        self._process.kill()
        self._process.wait()


def _kill_group(number: int) -> None:
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)


def run_isolated(
    jobs: Sequence[Job],
    collect: Callable[[Path, Ending], ResultT],
    *,
    timeout: float | None = None,
    at_once: int | None = None,
    fork: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[ResultT]:
    """Run every job and wait for all.

    Args:
        jobs: What to run.
        collect: Makes a result of the folder in which a job left something, and of how its process ended.
        timeout: Seconds after which a job is ended; None: never.
        at_once: How many run at the same time; None: as many as there are processors.
        fork: Fork this process rather than start new interpreters; None: where the system can.
        progress: Called with the number of jobs that are done and of all, several times a second.

    SIGTERM and SIGHUP end the processes, too, and raise SystemExit.

    Raises:
        RuntimeError: gradscope itself failed in one of the processes.
    """
    if fork is None:
        fork = hasattr(os, "fork")
    if fork:
        import torch  # noqa: F401 - once, for all forks
    start: Callable[[Job, Path], ChildProcess] = Forked if fork else Spawned
    with raising_at_signals(), tempfile.TemporaryDirectory(prefix="gradscope-") as folder:
        folders = [Path(folder) / str(number) for number in range(len(jobs))]
        for path in folders:
            path.mkdir()
        running = _Running(start, timeout, at_once or processors())
        endings: dict[int, Ending] = {}
        try:
            for number, ending in running.run(list(zip(jobs, folders, strict=True)), progress):
                endings[number] = ending
        finally:
            running.kill()
        for path in folders:
            if (path / FAULT).exists():
                raise RuntimeError((path / FAULT).read_text())
        return [collect(path, endings[number]) for number, path in enumerate(folders)]


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Running:
    """The processes that run."""

    def __init__(self, start: Callable[[Job, Path], ChildProcess], timeout: float | None, at_once: int) -> None:
        self._start = start
        self._timeout = timeout
        self._at_once = at_once
        self._processes: dict[int, tuple[ChildProcess, Path, float]] = {}

    def run(
        self, waiting: list[tuple[Job, Path]], progress: Callable[[int, int], None] | None
    ) -> Iterator[tuple[int, Ending]]:
        """Each job's number and ending, as they end."""
        count, done = len(waiting), 0
        while done < count:
            while len(self._processes) < self._at_once and done + len(self._processes) < count:
                number = done + len(self._processes)
                self._processes[number] = (self._start(*waiting[number]), waiting[number][1], time.monotonic())
            for number, ending in self._ended():
                done += 1
                yield number, ending
            if progress is not None:
                progress(done, count)
            if self._processes:
                time.sleep(_PAUSE)

    def _ended(self) -> list[tuple[int, Ending]]:
        ended: list[tuple[int, Ending]] = []
        for number, (process, folder, started) in list(self._processes.items()):
            ending: Ending | None = process.poll()
            if ending is None and self._timeout is not None and time.monotonic() - started > self._timeout:
                ending = "timeout"
            elif ending is None and prints_too_much(folder):
                ending = "output"
            if ending is not None:
                process.kill()  # also of one that is over: what it has started may not be
                ended.append((number, ending))
        for number, _ in ended:
            del self._processes[number]
        return ended

    def kill(self) -> None:
        """End what still runs: somebody interrupted us."""
        for process, _, _ in self._processes.values():
            process.kill()
