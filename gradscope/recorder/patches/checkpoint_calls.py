"""Where activation checkpointing begins and ends to run a function: backward runs the function a second time.

``checkpoint`` itself is imported by name into programs; what it calls is looked up in its module, and replaced there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.recomputed import count_in_backward, counted
from gradscope.recorder.patches.state_when_run_again import RerunWatch, watched
from gradscope.recorder.places.lines_of_callers import lines_of_callers
from gradscope.recording.rows import EventKind

GENERATORS = ("_checkpoint_without_reentrant_generator_impl", "_checkpoint_without_reentrant_generator")
"""Names in ``torch.utils.checkpoint`` of what runs before and after the function; since torch 2.14 there are both, and
``checkpoint`` calls the first, which takes all but the function and its arguments by name."""

_CHECKPOINT, _REENTRANT = int(EventKind.CHECKPOINT), int(EventKind.REENTRANT_CHECKPOINT)
_CALLERS = 3
"""Functions of the program's through which what is checkpointed may be handed on."""
_next = count()


def reported(generator: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for the generator while a recorder is at work."""

    @wraps(generator)
    def around(*args: Any, **kwargs: Any) -> Iterator[Any]:
        if is_dynamo_compiling():
            yield from generator(*args, **kwargs)
            return
        preserves = kwargs.get("preserve_rng_state", args[1:2] != (False,))
        function: Any = args[0] if args else None
        subject, given = next(_next), args[1:]
        _report(_CHECKPOINT, sys._getframe(1), subject, {"begins": True, "preserve_rng_state": bool(preserves)})
        watches = _watches(sys._getframe(1), function, given)
        if args:
            args = (counted(watched(function, watches)), *given)
        try:
            yield from generator(*args, **kwargs)
        finally:
            for watch in watches:
                watch.look(function, given)
            _report(_CHECKPOINT, sys._getframe(1), subject, {"begins": False})

    return around


def reentrant_reported(apply: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``CheckpointFunction.apply`` while a recorder is at work."""

    @wraps(apply)
    def applies(*args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling():
            return apply(*args, **kwargs)
        subject, frame = next(_next), sys._getframe(1)
        if not torch.is_grad_enabled():  # nothing will run again: that it was called is all there is to it
            _report(_REENTRANT, frame, subject, {"begins": True, "tracks": False})
            return apply(*args, **kwargs)
        tracked = any(isinstance(one, Tensor) and one.requires_grad for one in args)
        _report(_REENTRANT, frame, subject, {"begins": True, "requires_grad": tracked})
        watches = _watches(frame, args[0] if args else None, args[1:])
        try:
            result = apply(*args, **kwargs)
            for watch in watches:
                watch.look(args[0], args[1:])
            with DisableTorchFunction():
                count_in_backward(result, watches)
            return result
        finally:
            _report(_REENTRANT, frame, subject, {"begins": False})

    return applies


def _watches(frame: FrameType, function: Any, args: tuple[Any, ...]) -> list[RerunWatch]:
    found: list[RerunWatch] = []
    if function is not None and is_ours_on_top():
        note("checkpoint", lambda mode: found.append(RerunWatch(mode, frame, function, args)))
    return found


def _report(kind: int, frame: FrameType, subject: int, detail: dict[str, Any]) -> None:
    if is_ours_on_top():
        note("checkpoint", lambda mode: _observe(mode, kind, frame, subject, detail))


def _observe(mode: RecorderMode, kind: int, frame: FrameType, subject: int, detail: dict[str, Any]) -> None:
    called = lines_of_callers(mode.observer.sites, frame, _CALLERS) if detail["begins"] else []
    mode.observer.observe_event(kind, frame, mode.thread, subject, detail | ({"called": called} if called else {}), ())
