"""Calls that are no torch functions and that torch refused: an optimizer's parameters, a hook on a tensor."""

from __future__ import annotations

from collections.abc import Iterable
from types import FrameType
from typing import Any

from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

_REFUSED = int(EventKind.REFUSED)


def note_refusal(call: str, frame: FrameType, tensors: Iterable[Any], error: Exception) -> None:
    """Note the error of a call, which goes on as it was raised.

    Args:
        call: What was called, as people write it.
        frame: The frame that called it.
        tensors: What it was given.
        error: What it raised.
    """
    kind, message, given = type(error).__qualname__, str(error), list(tensors)
    note(call, lambda mode: mode.observer.observe_refusal(call, frame, mode.thread, kind, message, given))
