"""``Class.method`` of a code object, in Python 3.10 too, whose code objects know their bare names only."""

from __future__ import annotations

import sys
from inspect import CO_NESTED
from types import CodeType, FrameType

from gradscope.frames.frame_locals import reading_locals
from gradscope.frames.statements import Source


def qualified_name(code: CodeType, frame: FrameType | None = None, source: Source | None = None) -> str:
    """``Class.method``; with ``<locals>`` in it where it stands in a function.

    Args:
        code: The code object.
        frame: One that runs it, for its ``self``.
        source: What it was compiled from.
    """
    if sys.version_info >= (3, 11):
        return code.co_qualname
    if source is not None and (found := source.functions_by_line.get((code.co_firstlineno, code.co_name))):
        return found
    if frame is not None and code.co_varnames[:1] == ("self",) and code.co_argcount:
        with reading_locals(frame) as names:
            return f"{type(names.get('self')).__name__}.{code.co_name}"
    return f"<locals>.{code.co_name}" if code.co_flags & CO_NESTED else code.co_name
