"""Taking the recorders' modes off the stack of the calling thread for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.overrides import _get_current_function_mode

from gradscope.recorder.calls.function_mode import RecorderMode


def is_ours_on_top() -> bool:
    """Whether the next torch function is handed to a recorder first."""
    return type(_get_current_function_mode()) is RecorderMode  # type: ignore[no-untyped-call]


def take_aside() -> tuple[RecorderMode, ...]:
    """Take the recorders' modes from the top of the stack, the uppermost first."""
    modes: list[RecorderMode] = []
    while is_ours_on_top():
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
