"""Recording the threads that a recorded thread starts.

A function mode belongs to one thread. While a recorder is at work, ``threading.Thread.start`` notes who is recording
the starting thread, and the new thread enters the same recorders before it runs. Both methods are put back when the
last recorder stops; whoever keeps ours finds that it only passes the call on. Threads made with ``_thread`` alone are
not seen.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from gradscope.frames.replacements import Replacement
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.places.call_sites import Site

Thread: Any = threading.Thread
"""``_bootstrap_inner`` is private, and the same in Python 3.10 to 3.13."""


class Follower(Protocol):
    """A recorder, as far as threads concern it."""

    def records_this_thread(self) -> bool:
        """Whether the calling thread is recorded, now."""

    def start_of_thread(self, frame: FrameType) -> Site | None:
        """Where a thread is started by a frame; None where that runs no code of the user's."""

    def enter_thread(self, name: str, started: Site | None = None) -> None:
        """Begin to record the calling thread, which was started at a place of the user's."""

    def leave_thread(self) -> None:
        """Stop recording the calling thread."""

    def mode_here(self) -> RecorderMode | None:
        """The mode that records the calling thread."""


_following: list[Follower] = []
"""The recorders at work, in the order in which they started."""

_inherited: WeakKeyDictionary[threading.Thread, list[tuple[Follower, Site | None]]] = WeakKeyDictionary()
_ROOM = 256 << 20
"""Bytes of address space for the stack of a recorded thread: a deep graph may be freed in it."""
_replaced: list[Replacement] = []


def follow(recorder: Follower) -> None:
    """Let new threads of recorded threads enter a recorder."""
    if not _following:
        _replaced.append(Replacement(Thread, "start", _noting))
        _replaced.append(Replacement(Thread, "_bootstrap_inner", _entering))
    _following.append(recorder)


def unfollow(recorder: Follower) -> None:
    """Let new threads alone again."""
    if recorder in _following:
        _following.remove(recorder)
    if not _following:
        for method in _replaced:
            method.put_back()
        _replaced.clear()


def following() -> list[Follower]:
    """The recorders at work."""
    return list(_following)


def modes_of_this_thread() -> list[RecorderMode]:
    """The modes that record the calling thread, also while they are off its stack: the first recorder's first."""
    return [mode for recorder in _following if (mode := recorder.mode_here()) is not None]


def _noting(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(start)
    def noting_start(thread: threading.Thread) -> None:
        recorders = [recorder for recorder in _following if recorder.records_this_thread()]
        if recorders:
            caller = sys._getframe(1)  # (a pool's thread runs what other lines give it: the pool itself starts it)
            _inherited[thread] = [(recorder, recorder.start_of_thread(caller)) for recorder in recorders]
        has_default_room = bool(recorders) and threading.stack_size() == 0
        if has_default_room:
            threading.stack_size(_ROOM)
        try:
            start(thread)
        finally:
            if has_default_room and threading.stack_size() == _ROOM:
                threading.stack_size(0)

    return noting_start


def _entering(bootstrap: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    @wraps(bootstrap)
    def entering_bootstrap(thread: threading.Thread) -> None:
        recorders = []
        for recorder, started in _inherited.pop(thread, ()):
            if recorder in _following:
                recorder.enter_thread(thread.name, started)
                recorders.append(recorder)
        try:
            bootstrap(thread)
        finally:
            for recorder in reversed(recorders):
                recorder.leave_thread()

    return entering_bootstrap
