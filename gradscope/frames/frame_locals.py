"""Reading a frame's local names and leaving nothing behind. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dis import get_instructions
from functools import cache
from inspect import CO_OPTIMIZED
from sys import getrefcount
from types import CodeType, FrameType
from typing import Any


@contextmanager
def reading_locals(frame: FrameType, watching: bool = False) -> Iterator[Mapping[str, Any]]:
    """A frame's local names.

    Before Python 3.13 reading them leaves a copy in the frame, which would keep what the locals held then alive: it is
    emptied, unless the program holds it too (it called ``locals()``).
    """
    code = frame.f_code
    is_function = bool(code.co_flags & CO_OPTIMIZED)
    if _COPIES_LOCALS and is_function and not watching and _may_hold_locals(code):
        yield {}  # the program may hold the copy that reading would bring up to date
        return
    names = frame.f_locals
    try:
        yield names if is_function or type(names) is dict else _plain(names)
    finally:
        if _COPIES_LOCALS and is_function and getrefcount(names) <= _REFERENCES_OF_OURS:
            names.clear()


def _plain(names: Any) -> dict[str, Any]:
    """The names of a class body, or of an ``exec`` with a mapping of the program's own, whose code must not run."""
    return dict.copy(names) if issubclass(type(names), dict) else {}


_HOLDERS = frozenset(("locals", "vars", "dir", "exec", "eval"))
"""Names whose use in a function shows that it may see its own local names as a dictionary."""


@cache
def _may_hold_locals(code: CodeType) -> bool:
    if _HOLDERS.isdisjoint(code.co_names):
        return False
    loads = ("LOAD_GLOBAL", "LOAD_NAME")  # not an attribute of that name
    return any(step.opname in loads and step.argval in _HOLDERS for step in get_instructions(code))


_COPIES_LOCALS = sys.version_info < (3, 13)
_REFERENCES_OF_OURS = 4
"""The frame's, ours, the one of the ``with`` statement that reads them, and the argument of ``getrefcount``."""
