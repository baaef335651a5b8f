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


class Call(NamedTuple):
    """A call of a function of the program's."""

    code: CodeType
    number: int
    """How many callers it has; the frame's address, below zero, for one that may pause."""
    called_from: int
    """A hash of where the callers are, which they do not leave while the call lasts."""


class _Last(NamedTuple):
    call: Call
    site: Site
    op: int


def calls_to(innermost: FrameType) -> dict[int, Call]:
    """By address of each frame on the stack below one, and its own, the call that it is of."""
    frames, frame = [innermost], innermost.f_back
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    calls, depth, called_from = dict[int, Call](), 0, 0
    for frame in reversed(frames):
        code = frame.f_code
        if code.co_flags & _MAY_PAUSE:
            calls[id(frame)] = Call(code, -id(frame), 0)
        else:
            calls[id(frame)] = Call(code, depth, called_from)
        if code.co_name != _HANDS_ON:
            depth += 1
            called_from = hash((called_from, id(code), frame.f_lasti))
    return calls


class LastStatements:
    """What is known of calls, by thread."""

    def __init__(self) -> None:
        self._threads: dict[int, dict[int, _Last]] = {}

    def of(self, call: Call) -> tuple[Site, int] | None:
        """The statement's site, and the op that was seen there."""
        last = self._calls().get(call.number)
        return None if last is None or last.call != call else (last.site, last.op)

    def note(self, call: Call, site: Site, op: int) -> None:
        """A call is at a site, where an op was seen."""
        self._calls()[call.number] = _Last(call, site, op)

    def forget(self, call: Call) -> None:
        """Nothing is to be looked at any more of a call."""
        self._calls().pop(call.number, None)

    def forget_ended(self, innermost: Call) -> None:
        """A call goes on: what it had called is over, but for what may have paused."""
        calls = self._calls()
        for deeper in [one for one in calls if one > innermost.number >= 0]:
            del calls[deeper]

    def begin_thread(self) -> None:
        """The calling thread has just begun, maybe with the number of one that is over."""
        self._threads.pop(threading.get_ident(), None)

    def move(self, moves: Moves) -> None:
        """Know ops by their new rows."""
        for calls in self._threads.values():
            calls.update({key: last._replace(op=moves["ops"](last.op)) for key, last in calls.items()})

    def __iter__(self) -> Iterator[tuple[Site, int]]:
        for calls in self._threads.values():
            yield from ((last.site, last.op) for last in calls.values())

    def clear(self) -> None:
        """Forget them all."""
        self._threads.clear()

    def _calls(self) -> dict[int, _Last]:
        return self._threads.setdefault(threading.get_ident(), {})
