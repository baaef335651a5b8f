"""How far a program has come, on one line of the terminal, while the program itself is silent there.

A thread looks at what is counted anyway. It is none that ``threading`` knows of, so that the program does not meet it.
"""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from gradscope.hosting.shared_terminal import SharedTerminal

_PATIENCE = 2.0
"""Seconds that a program may run, and be silent, before the line appears."""

_INTERVAL = 0.5
_LOOKS = 20
"""Of so many looks the least memory counts: within a training step it goes up and down."""


class Progress(NamedTuple):
    """What was seen of a program so far."""

    seconds: float
    ops: int
    nbytes: int
    """Of the storages that live."""
    growth: int
    """By how many bytes the least that was seen to live has grown since the first looks."""


class ProgressLine:
    """Shows how far a program has come.

    Args:
        terminal: Where.
        look: Gives ops and living bytes; None while there is nothing to tell.
        words: Makes the line.
        patience: Seconds of silence after which it appears.
        interval: Seconds between two looks.
    """

    def __init__(
        self,
        terminal: SharedTerminal,
        look: Callable[[], tuple[int, int] | None],
        words: Callable[[Progress], str],
        *,
        patience: float = _PATIENCE,
        interval: float = _INTERVAL,
    ) -> None:
        self._terminal = terminal
        self._look = look
        self._words = words
        self._patience = patience
        self._interval = interval
        self._began = time.monotonic()
        self._first: list[int] = []
        self._last: deque[int] = deque(maxlen=_LOOKS)
        self._stopped = threading.Lock()
        """Held as long as the line may be drawn."""
        self._pid = os.getpid()

    def start(self) -> None:
        """Look from now on."""
        self._terminal.watch()
        self._stopped.acquire()
        _thread.start_new_thread(self._watch, ())

    def stop(self) -> None:
        """Take the line away for good."""
        if self._stopped.locked() and os.getpid() == self._pid:
            self._stopped.release()
            self._terminal.leave()

    def progress(self, ops: int, nbytes: int) -> Progress:
        """What there is to tell, after one more look."""
        if len(self._first) < _LOOKS:
            self._first.append(nbytes)
        self._last.append(nbytes)
        growth = min(self._last) - min(self._first)
        return Progress(time.monotonic() - self._began, ops, nbytes, growth)

    def _watch(self) -> None:
        while not self._stopped.acquire(timeout=self._interval):
            looked = self._look()
            if looked is None:
                continue
            progress = self.progress(*looked)
            if progress.seconds > self._patience and self._terminal.silence > self._patience:
                self._terminal.draw(self._words(progress))
        self._stopped.release()
