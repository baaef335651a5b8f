"""Reading a frame's local names and leaving nothing behind. Imports no torch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import CO_OPTIMIZED
from sys import getrefcount
from types import FrameType
from typing import Any


@contextmanager
def reading_locals(frame: FrameType) -> Iterator[Mapping[str, Any]]:
    """A frame's local names.

    Before Python 3.13 reading them leaves a copy in the frame, which would keep what the locals held then alive: it is
    emptied, unless the program holds it too (it called ``locals()``).
    """
    names = frame.f_locals
    try:
        yield names
    finally:
        if _COPIES_LOCALS and frame.f_code.co_flags & CO_OPTIMIZED and getrefcount(names) <= _REFERENCES_OF_OURS:
            names.clear()


_COPIES_LOCALS = sys.version_info < (3, 13)
_REFERENCES_OF_OURS = 4
"""The frame's, ours, the one of the ``with`` statement that reads them, and the argument of ``getrefcount``."""
