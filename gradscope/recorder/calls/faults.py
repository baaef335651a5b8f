"""Whose error comes up while the recorder is at work: its own, or one raised into the program at that moment."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from traceback import walk_tb
from types import CodeType

from gradscope.frames.whose_file import is_gradscope

_NEVER_FROM_OUTSIDE = {"torch", "numpy", "gradscope", *sys.stdlib_module_names}


def is_programs(error: BaseException) -> bool:
    """Whether the program would have met an error without us.

    It came from a signal handler of the program's, which Python runs between any two steps (a timeout by ``SIGALRM``),
    or another thread raised it in this one: then no code stands below ours, and its class is not one that we raise.
    """
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    if not set(_handlers()).isdisjoint(codes):
        return True
    is_below_ours = not codes or not is_gradscope(codes[-1].co_filename)
    return not is_below_ours and type(error).__module__.partition(".")[0] not in _NEVER_FROM_OUTSIDE


def _handlers() -> Iterator[CodeType]:
    """The code of each signal handler that is written in Python."""
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        for candidate in (handler, getattr(handler, "__func__", None), getattr(handler, "func", None)):
            code = getattr(candidate, "__code__", None)
            if isinstance(code, CodeType):
                yield code
