"""What a ``GradScaler`` did: scaled a loss, divided the gradients of an optimizer by the scale, made its step."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.amp import GradScaler
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recording.rows import EventKind

METHODS = ("scale", "unscale_", "step", "get_scale")
"""Those that are reported; a disabled scaler does nothing in them, and is not."""
_WITHOUT_OPTIMIZER = ("scale", "get_scale")

_GRAD_SCALER = int(EventKind.GRAD_SCALER)
_numbers: WeakKeyDictionary[GradScaler, int] = WeakKeyDictionary()
_next = count()


def reported(method: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for a method of ``GradScaler`` while a recorder is at work."""
    name = method.__name__

    @wraps(method)
    def calls(scaler: GradScaler, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not scaler._enabled or not is_ours_on_top():
            return method(scaler, *args, **kwargs)
        frame = sys._getframe(1)
        optimizer = args[0] if args else kwargs.get("optimizer")
        if name == "step":  # it divides the gradients itself, which is to come after it
            _report(name, scaler, optimizer, (), frame)
            return method(scaler, *args, **kwargs)
        result = method(scaler, *args, **kwargs)
        if name == "get_scale" and frame.f_globals.get("__name__") == GradScaler.__module__:  # (for state_dict)
            return result
        _report(name, scaler, optimizer, (result,) if isinstance(result, Tensor) else (), frame)
        return result

    return calls


def _report(name: str, scaler: GradScaler, optimizer: Any, scaled: tuple[Tensor, ...], frame: FrameType) -> None:
    def observe(mode: RecorderMode) -> None:
        detail = {"call": name} if name in _WITHOUT_OPTIMIZER else {"call": name, "optimizer": number_of(optimizer)}
        number = _numbers.setdefault(scaler, next(_next))
        mode.observer.observe_event(_GRAD_SCALER, frame, mode.thread, number, detail, scaled)

    note("GradScaler", observe)
