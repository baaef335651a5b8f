"""Whether the names of a running function's arguments still stand for what it was called with. Imports no torch."""

from __future__ import annotations

from dis import get_instructions, hasjabs, hasjrel
from functools import cache
from types import CodeType, FrameType


def holds_its_arguments(frame: FrameType) -> bool:
    """Whether none of them has got another value yet; False also where a loop leaves that open."""
    first, has_loop = _first_store(frame.f_code)
    return first is None or (not has_loop and frame.f_lasti < first)


@cache
def _first_store(code: CodeType) -> tuple[int | None, bool]:
    """The offset at which code first gives an argument another value, if it ever does; whether it has a loop."""
    arguments, first, has_loop = set(code.co_varnames[: code.co_argcount]), None, False
    for one in get_instructions(code):
        if first is None and one.opname.startswith(("STORE_FAST", "STORE_DEREF", "DELETE_FAST")):
            named = one.argval if isinstance(one.argval, tuple) else (one.argval,)
            first = None if arguments.isdisjoint(named) else one.offset
        is_jump = one.opcode in hasjrel or one.opcode in hasjabs
        has_loop = has_loop or (is_jump and isinstance(one.argval, int) and one.argval < one.offset)
    return first, has_loop
