"""Frames that ``warnings.warn(…, stacklevel=…)`` does not count.

A warning is put down to the line that called so many frames above, and a program's filters go by that line's module. A
function of ours that stands for one of somebody else's adds a frame. ``warnings`` passes over the frames of the import
machinery, which it knows by two words in the name of their file (CPython 3.10 to 3.13: ``is_internal_frame`` in
``Python/_warnings.c``, ``_is_internal_frame`` in ``Lib/warnings.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar

from gradscope.frames.whose_file import is_gradscope

_PASSED_OVER = ":importlib._bootstrap"

F = TypeVar("F", bound=Callable[..., Any])


def uncounted(function: F) -> F:
    """The function itself, whose frames are passed over from now on; another's is left as it is."""
    if isinstance(function, FunctionType):
        code = function.__code__
        if is_gradscope(code.co_filename) and not code.co_filename.endswith(_PASSED_OVER):
            function.__code__ = code.replace(co_filename=code.co_filename + _PASSED_OVER)
    return function
