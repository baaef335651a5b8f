"""Work that no signal handler of the program's can end half done. Imports no torch."""

from __future__ import annotations

import gc
import os
import threading
from _thread import start_new_thread
from collections.abc import Callable

_PATIENCE = 1.0
"""Seconds after which a wait looks whether there is anything to wait for."""


def uninterrupted(work: Callable[[], object]) -> None:
    """Do some work to its end; what a signal handler raises meanwhile (``KeyboardInterrupt``) is raised after it.

    Python runs signal handlers in the main thread, between any two steps; so there the work is done by another one.
    """
    if threading.get_ident() != threading.main_thread().ident:
        work()
        return
    _Helper(work).do()


class _Helper:
    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._process = os.getpid()
        self._is_begun, self._may_go_on = threading.Lock(), threading.Lock()
        self._may_go_on.acquire()
        self._is_finished = False
        self._error: BaseException | None = None

    def do(self) -> None:
        interrupt: BaseException | None = None
        while not self._is_finished:
            try:
                if not self._is_begun.locked():
                    self._start()
                self._may_go_on.acquire(timeout=_PATIENCE)
                if os.getpid() != self._process:
                    break  # a handler has forked: the child has no helper
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        try:
            start_new_thread(self._run, ())
        except RuntimeError:  # no thread can be had: the interpreter is about to end
            self._run()

    def _run(self) -> None:
        if not self._is_begun.acquire(blocking=False):
            return  # started twice: an interrupt came right after the first time
        collects = gc.isenabled()
        gc.disable()  # else finalizers of the program's might run in this thread
        try:
            self._work()
        except BaseException as error:
            self._error = error
        if collects:
            gc.enable()
        self._is_finished = True
        self._may_go_on.release()
