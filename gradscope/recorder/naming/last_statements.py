"""The statement that each call of the program's functions was at last, while its names are still to be looked at.

A frame cannot be told from a later one by its address, which is given again; and a reference to it would keep what its
names hold alive. So a call is known by where it was called from, and over once a frame below it goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import CodeType, FrameType
from typing import NamedTuple

from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.state.moves import Moves

_MAY_PAUSE = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_HANDS_ON = "__torch_function__"
"""A function of which one stands between a call of torch's and what that calls, or none: the recorder's own."""


class _Last(NamedTuple):
    """Where a call was."""

    code: CodeType
    called_from: int
    """A hash of where the callers are, which they do not leave while the call lasts."""
    site: Site
    op: int


class LastStatements:
    """By thread, and by how many callers a call has; by address for a frame that may pause."""

    def __init__(self) -> None:
        self._threads: dict[int, dict[int, _Last]] = {}
        self._pausing: dict[int, _Last] = {}

    def of(self, frame: FrameType) -> tuple[Site, int] | None:
        """The statement's site, and the op that was seen there, of the call that a frame is of."""
        if frame.f_code.co_flags & _MAY_PAUSE:
            last, called_from = self._pausing.get(id(frame)), 0
        else:
            depth, called_from = _callers_of(frame)
            last = self._calls().get(depth)
        if last is None or last.code is not frame.f_code or last.called_from != called_from:
            return None
        return last.site, last.op

    def note(self, frame: FrameType, site: Site, op: int) -> None:
        """A call is at a site, where an op was seen."""
        if frame.f_code.co_flags & _MAY_PAUSE:
            self._pausing[id(frame)] = _Last(frame.f_code, 0, site, op)
        else:
            depth, called_from = _callers_of(frame)
            self._calls()[depth] = _Last(frame.f_code, called_from, site, op)

    def forget(self, frame: FrameType) -> None:
        """Nothing is to be looked at any more of the call that a frame is of."""
        if frame.f_code.co_flags & _MAY_PAUSE:
            self._pausing.pop(id(frame), None)
        else:
            self._calls().pop(_callers_of(frame)[0], None)

    def forget_ended(self, innermost: FrameType) -> None:
        """A frame goes on: what it had called is over."""
        calls = self._calls()
        depth = _callers_of(innermost)[0] if calls else 0
        for deeper in [one for one in calls if one > depth]:
            del calls[deeper]

    def begin_thread(self) -> None:
        """The calling thread has just begun, maybe with the number of one that is over."""
        self._threads.pop(threading.get_ident(), None)

    def move(self, moves: Moves) -> None:
        """Know ops by their new rows."""
        for calls in (*self._threads.values(), self._pausing):
            calls.update({key: last._replace(op=moves["ops"](last.op)) for key, last in calls.items()})

    def __iter__(self) -> Iterator[tuple[Site, int]]:
        for calls in (*self._threads.values(), self._pausing):
            yield from ((last.site, last.op) for last in calls.values())

    def clear(self) -> None:
        """Forget them all."""
        self._threads.clear()
        self._pausing.clear()

    def _calls(self) -> dict[int, _Last]:
        return self._threads.setdefault(threading.get_ident(), {})


def _callers_of(frame: FrameType) -> tuple[int, int]:
    """How many callers a frame has, and a hash of where they are."""
    depth, called_from = 0, 0
    caller = frame.f_back
    while caller is not None:
        code = caller.f_code
        if code.co_name != _HANDS_ON:
            depth += 1
            called_from = hash((called_from, id(code), caller.f_lasti))
        caller = caller.f_back
    return depth, called_from
