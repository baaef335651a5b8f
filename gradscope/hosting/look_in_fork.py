"""A look at a program while it runs: in a fork of its process, so that the program itself goes on undisturbed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

PATIENCE = 120
"""Seconds after which a look is ended: a lock that another thread held at the fork is never released in it."""


def look_in_fork(look: Callable[[], None]) -> None:
    """Call something in a fork of this process, which then ends; return at once.

    It is called in a child's child: the program, which may wait for any child of its own, never meets it.
    """
    child = os.fork()
    if child:
        with suppress(ChildProcessError):  # a handler of the program's for SIGCHLD was quicker
            os.waitpid(child, 0)
        return
    try:
        if not os.fork():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            look()
    finally:
        os._exit(0)
