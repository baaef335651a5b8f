"""A terminal that a program writes to and gradscope has one line on, which gives way before whatever the program does.

The line stands in the row below the cursor, which stays where the program left it: so that what nobody sees coming, of
a library in C, another process or a prompt for a password, stands where it would without us.
Python's two streams are watched by an attribute of their own (``stream.write``), and ``input`` by what stands for it.
"""

from __future__ import annotations

import builtins
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import wraps
from typing import Any

from gradscope.frames.replacements import Replacement

_ERASED = "\x1b[J"
"""All behind the cursor."""
_ROW_BELOW = "\x1bD\x1b[A"
"""One row down, where the terminal scrolls if it must, and up again: the column stays."""
_SAVED_AND_DOWN, _BACK = "\x1b7\x1b[B\r", "\x1b8"
_COLUMNS = 80
"""Of a terminal that does not tell."""


class SharedTerminal:
    """The terminal on a file descriptor.

    Args:
        descriptor: Where the line is written.
        streams: What of the program's is on the same terminal.
    """

    def __init__(self, descriptor: int, streams: tuple[Any, ...]) -> None:
        self._descriptor = descriptor
        self._streams = streams
        self._lock = threading.RLock()
        self._is_drawn = False
        self._is_line_begun = False
        """What the program wrote last did not end its line: a prompt, a bar of its own."""
        self._questions = 0
        self._heard = time.monotonic()
        self._pid = os.getpid()
        self._watching = ExitStack()
        self._is_left = False

    @property
    def silence(self) -> float:
        """Seconds since the program wrote anything."""
        return time.monotonic() - self._heard

    def watch(self) -> None:
        """Notice from now on what the program does with the terminal."""
        for stream in self._streams:
            self._watching.enter_context(Replacement(stream, "write", self._noticing))
        self._watching.enter_context(Replacement(builtins, "input", self._giving_way))

    def leave(self) -> None:
        """Take the line and the watching away; it is not drawn again."""
        with self._lock:
            self.erase()
            self._is_left = True
        self._watching.close()

    def draw(self, text: str) -> None:
        """Write the line anew, cut to the terminal's width, unless the program has a use for the terminal."""
        with self._lock, suppress(OSError):  # a terminal that has gone
            if self._is_left:
                return
            if self._is_line_begun or self._questions or not self._is_plain():
                self.erase()
                return
            columns = os.get_terminal_size(self._descriptor).columns or _COLUMNS
            drawn = f"{_ERASED}{_ROW_BELOW}{_SAVED_AND_DOWN}{text[: columns - 1]}{_BACK}"
            os.write(self._descriptor, drawn.encode("ascii", "replace"))
            self._is_drawn = True

    def erase(self) -> None:
        """Leave the terminal as the program left it."""
        with self._lock:
            if self._is_drawn:
                self._is_drawn = False
                with suppress(OSError):
                    os.write(self._descriptor, _ERASED.encode())

    def _is_plain(self) -> bool:
        """Whether the terminal is ours to write to, and nobody edits or hides what is typed there."""
        import termios

        if os.tcgetpgrp(self._descriptor) != os.getpgrp():
            return False
        try:
            modes = termios.tcgetattr(self._descriptor)[3]
        except termios.error:
            return False
        return bool(modes & termios.ECHO and modes & termios.ICANON)

    def _noticing(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def noticed(text: str, /) -> int:
            if os.getpid() != self._pid:
                return write(text)
            with self._lock:
                self.erase()
                self._heard = time.monotonic()
                if text and isinstance(text, str):
                    self._is_line_begun = not text.endswith("\n")
                return write(text)

        return noticed

    def _giving_way(self, ask: Callable[..., str]) -> Callable[..., str]:
        @wraps(ask)
        def asked(*prompt: object) -> str:
            if os.getpid() != self._pid:
                return ask(*prompt)
            self._questions += 1
            try:
                self.erase()
                return ask(*prompt)
            finally:
                self._questions -= 1
                self._heard, self._is_line_begun = time.monotonic(), False

        return asked


def shared_terminal() -> SharedTerminal | None:
    """The terminal on standard error; None where that or standard output is none, or it has no such commands.

    What reads a pipe from the program may print it on the same terminal.
    """
    if os.name != "posix" or os.environ.get("TERM", "dumb") == "dumb" or not (os.isatty(1) and os.isatty(2)):
        return None
    streams = tuple(stream for stream in (sys.stdout, sys.stderr) if _is_terminal(stream))
    return SharedTerminal(2, streams)


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it was closed
        return False
