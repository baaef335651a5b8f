"""Taking the recorders' modes off the stack of the calling thread for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from gradscope.recorder.calls.function_mode import RecorderMode

_height, _mode_at = torch._C._len_torch_function_stack, torch._C._get_function_stack_at


def uppermost() -> Any:
    """The mode to which the next torch function is handed first, or None."""
    height = _height()
    return _mode_at(height - 1) if height else None


def is_ours_on_top() -> bool:
    """Whether the next torch function is handed to a recorder first."""
    return type(uppermost()) is RecorderMode


def take_aside(kind: type[RecorderMode] = RecorderMode) -> tuple[RecorderMode, ...]:
    """Take the recorders' modes (of one kind) from the top of the stack, the uppermost first."""
    modes: list[RecorderMode] = []
    while isinstance(uppermost(), kind):
        modes.append(torch._C._pop_torch_function_stack())
    return tuple(modes)


def put_back(modes: tuple[RecorderMode, ...]) -> None:
    """Put on the stack again what was taken aside."""
    for mode in reversed(modes):
        torch._C._push_on_torch_function_stack(mode)


@contextmanager
def aside() -> Iterator[tuple[RecorderMode, ...]]:
    """Take the recorders' modes from the top of the stack while open."""
    modes = take_aside()
    try:
        yield modes
    finally:
        put_back(modes)
