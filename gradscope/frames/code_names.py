"""``Class.method`` of a code object, in Python 3.10 too, whose code objects know their bare names only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import CO_NESTED
from types import CodeType, FrameType, FunctionType
from typing import Any

from gradscope.frames.frame_locals import reading_locals
from gradscope.frames.statements import Source

_OBJECTS = ("self", "cls")
"""First parameters of methods."""
_DEEPEST = 16
"""Functions in one another that are looked at: what a program has put into them may go in a circle."""


def qualified_name(code: CodeType, frame: FrameType | None = None, source: Source | None = None) -> str:
    """``Class.method``, by the class that defines it; with ``<locals>`` in it where it stands in a function.

    Args:
        code: The code object.
        frame: One that runs it, for its ``self`` and the classes of its module.
        source: What it was compiled from.
    """
    if sys.version_info >= (3, 11):
        return code.co_qualname
    if source is not None and (found := source.functions_by_line.get((code.co_firstlineno, code.co_name))):
        return found
    owner = ""
    if frame is not None:
        classes = _classes_of_first(code, frame)
        names = (one.__qualname__ for one in classes if _holds(one, code))
        owner = next(names, "") or (classes[0].__name__ if classes and not code.co_flags & CO_NESTED else "")
    if owner:
        return f"{owner}.{code.co_name}"
    if code.co_flags & CO_NESTED:
        return f"<locals>.{code.co_name}"
    return code.co_name if frame is None else _static_name(code, frame.f_globals)


def _classes_of_first(code: CodeType, frame: FrameType) -> tuple[type, ...]:
    """The class of a method's object, or the object that is one, and what it inherits from."""
    if not code.co_argcount or code.co_varnames[0] not in _OBJECTS:
        return ()
    with reading_locals(frame) as names:
        first = names.get(code.co_varnames[0])
    if first is None:  # (deleted, or not to be read)
        return ()
    return first.__mro__ if issubclass(type(first), type) else type(first).__mro__


def _static_name(code: CodeType, names: dict[str, Any]) -> str:
    """The name of a function of a module, or of one that takes no object in a class of it."""
    known = list(names.values())  # (another thread may import something meanwhile)
    if not any(found is code for found in _codes(names.get(code.co_name))):
        for one in known:
            if issubclass(type(one), type) and one.__module__ == names.get("__name__") and _holds(one, code):
                return f"{one.__qualname__}.{code.co_name}"
    return code.co_name


def _holds(one: type, code: CodeType) -> bool:
    """Whether a class defines a function of its own with this code."""
    return any(found is code for found in _codes(one.__dict__.get(code.co_name)))


def _codes(function: Any) -> Iterator[CodeType]:
    """The code of a function, a property or a method without an object, and of what stands in it for another.

    Of these alone: any other object may answer with code of the program's when it is asked for an attribute.
    """
    parts = [function]
    for _ in range(_DEEPEST):
        part: Any = parts.pop() if parts else None
        if type(part) is property:
            parts += [part.fget, part.fset, part.fdel]
        elif type(part) in (staticmethod, classmethod):
            parts.append(part.__func__)
        elif type(part) is FunctionType:
            yield part.__code__
            parts.append(part.__dict__.get("__wrapped__"))
