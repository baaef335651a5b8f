"""Ending a program that takes too long, also where it hangs in C++ and heeds no signal handler of Python's.

A thread waits beside the program. It is none that ``threading`` knows of, so that the program does not meet it.
"""

from __future__ import annotations

import _thread
import faulthandler
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from gradscope.hosting.descendants import end_descendants
from gradscope.hosting.process import flush_quietly

_PATIENCE = 60
"""Seconds that showing what was seen may take: then the process ends without, wherever its threads hang."""

_exit_at_once = os._exit  # while a program runs another function stands for it


class TimeLimit:
    """Calls something after some time, once, and ends the process with all that it has started.

    Args:
        seconds: How long the program may take.
        ended: Called in a thread of its own when the time is up; the program goes on meanwhile.
        exit_code: With what the process then ends.
    """

    def __init__(self, seconds: float, ended: Callable[[], object], exit_code: int) -> None:
        self._seconds = seconds
        self._ended = ended
        self._exit_code = exit_code
        self._stopped = threading.Lock()
        """Held as long as the time may run out."""
        self._claim = threading.Lock()
        """Taken by who ends the process: the program, or this."""
        self._pid = os.getpid()
        self._watcher = 0

    def start(self) -> None:
        """Let the time run."""
        self._stopped.acquire()
        with suppress(RuntimeError):  # there is no standard error
            faulthandler.dump_traceback_later(self._seconds + _PATIENCE, exit=True, file=2)
        _thread.start_new_thread(self._watch, ())

    def stop(self) -> None:
        """The program is over: its time does not run out any more. Where it has, this does not return."""
        if os.getpid() != self._pid or _thread.get_ident() == self._watcher or not self._stopped.locked():
            return
        if not self._claim.acquire(blocking=False):
            _wait_for_the_end()
        self._stopped.release()
        faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        self._watcher = _thread.get_ident()
        if self._stopped.acquire(timeout=self._seconds) or not self._claim.acquire(blocking=False):
            return
        try:
            self._ended()
            for stream in (sys.stdout, sys.stderr):
                flush_quietly(stream)
            end_descendants()
        finally:
            _exit_at_once(self._exit_code)


def _wait_for_the_end() -> NoReturn:
    while True:
        threading.Event().wait()


def frames_of_threads() -> list[FrameType]:
    """Where the threads of the process are, the main one first; not the calling one."""
    frames = sys._current_frames()
    frames.pop(_thread.get_ident(), None)
    main = threading.main_thread().ident
    return [frames[ident] for ident in sorted(frames, key=lambda one: one != main)]
