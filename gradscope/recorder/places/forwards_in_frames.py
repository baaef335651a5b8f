"""Where the user's code calls ``forward`` of a module itself, so that none of the module's hooks runs.

Asked at some of the calls of each place of the user's code: the frames tell who called whom.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType, FrameType

from torch import nn

from gradscope.frames.frame_locals import reading_locals

MODULE_CALLS = frozenset((nn.Module._wrapped_call_impl.__code__, nn.Module._call_impl.__code__))
"""What runs when a module is called, as it should be."""


def directly_called(frame: FrameType, is_user: Callable[[CodeType], bool]) -> tuple[nn.Module, FrameType] | None:
    """The module whose ``forward`` a frame runs, and the user's frame that called it without calling the module.

    None for what a call of the same module is around: ``super().forward(x)``, a ``forward`` that was put in place of
    the module's own and calls it.
    """
    caller = frame.f_back
    if frame.f_code.co_name != "forward" or caller is None or not is_user(caller.f_code):
        return None
    module = _own_module(frame)
    if module is None:
        return None
    current: FrameType | None = caller
    while current is not None:
        if (current.f_code in MODULE_CALLS or current.f_code.co_name == "forward") and _own_module(current) is module:
            return None
        current = current.f_back
    return module, caller


def is_forward(frame: FrameType) -> bool:
    """Whether a frame runs the ``forward`` of a module."""
    return frame.f_code.co_name == "forward" and _own_module(frame) is not None


def _own_module(frame: FrameType) -> nn.Module | None:
    """The module that a frame's first argument is."""
    code = frame.f_code
    if not code.co_argcount:
        return None
    with reading_locals(frame) as names:
        owner = names.get(code.co_varnames[0])
    return owner if isinstance(owner, nn.Module) else None
