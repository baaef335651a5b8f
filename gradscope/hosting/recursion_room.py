"""Room to recurse: a program gets as deep as it would with none of our frames below it, and sees the limit it set."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_OF_A_MODULE = 2 if sys.version_info < (3, 12) else 1
"""The depth that Python gives for a call in a module's own code; until 3.11 the call of a C function counts as one."""
_LARGEST = 2**31 - 1


def reported_depth() -> int:
    """How deep Python is where this is called, one for this function included; 0 where it does not say."""
    try:
        sys.setrecursionlimit(1)
    except RecursionError as error:
        return _depth_in(str(error))
    return 0


def _depth_in(text: str) -> int:
    found = re.search(r"depth (\d+)", text)
    return int(found[1]) if found else 0


@contextmanager
def room_to_recurse(depth: int) -> Iterator[None]:
    """Raise the limit by what lies below a program, unseen by it.

    Args:
        depth: What :func:`reported_depth` gives as the outermost frame of the program.
    """
    below = max(0, depth - _OF_A_MODULE)
    get, put = sys.getrecursionlimit, sys.setrecursionlimit
    before = get()

    def getrecursionlimit() -> int:
        return get() - below

    def setrecursionlimit(limit: int, /) -> None:
        try:
            put(limit + below if type(limit) is int and 0 < limit < _LARGEST - below else limit)
        except RecursionError as error:  # too low for where the program is: it says both, for this frame
            text = str(error).replace(f"to {limit + below} ", f"to {limit} ")
            raise RecursionError(re.sub(r"depth \d+", f"depth {_depth_in(text) - below - 1}", text)) from None

    put(before + below)
    shown: tuple[tuple[str, Callable[..., Any], Callable[..., Any]], ...] = (
        ("getrecursionlimit", get, getrecursionlimit),
        ("setrecursionlimit", put, setrecursionlimit),
    )
    for name, _, ours in shown:
        setattr(sys, name, ours)
    try:
        yield
    finally:
        for name, pythons, ours in shown:
            if getattr(sys, name) is ours:
                setattr(sys, name, pythons)
        put(max(get() - below, reported_depth() + 1))
