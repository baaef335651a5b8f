"""Whether the passes of a ``DistributedDataParallel`` average gradients: decided where its forward begins.

Noted where it is other than the time before, with the parameters the first time. And that one was made: it then sends
its parameters from the first process to the others, which no function mode is told of.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.state.tensors_in import version_of
from gradscope.recording.rows import EventKind

METHOD = "_pre_forward"
CHANGES = 1000
"""Of one module that are noted."""
_DDP_FORWARD = int(EventKind.DDP_FORWARD)
_next = count()


class _Known:
    """What was noted of one module."""

    def __init__(self) -> None:
        self.number = next(_next)
        self.averages: bool | None = None
        self.changes = 0


_known: WeakKeyDictionary[nn.Module, _Known] = WeakKeyDictionary()


def forget() -> None:
    """Note each module anew: another recording begins."""
    _known.clear()


def reported(pre_forward: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for the method while a recorder is at work."""

    @wraps(pre_forward)
    def begins(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not is_dynamo_compiling() and torch.is_grad_enabled() and is_ours_on_top():
            known = _known.setdefault(module, _Known())
            averages = bool(getattr(module, "require_backward_grad_sync", True))
            if averages is not known.averages and known.changes < CHANGES:
                frame = sys._getframe(1)
                note("DistributedDataParallel", lambda mode: _observe(mode, module, known, averages, frame))
                known.averages = averages
                known.changes += 1
        return pre_forward(module, *args, **kwargs)

    return begins


def making_reported(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``DistributedDataParallel.__init__`` while a recorder is at work."""

    @wraps(init)
    def makes(wrapper: Any, module: Any, *args: Any, **kwargs: Any) -> None:
        if is_dynamo_compiling() or not is_ours_on_top() or not isinstance(module, nn.Module):
            return init(wrapper, module, *args, **kwargs)
        before = [(parameter, version_of(parameter)) for parameter in module.parameters()]
        init(wrapper, module, *args, **kwargs)
        note("DistributedDataParallel", lambda mode: mode.observer.observe_written_inside(before))
        return None

    return makes


def _observe(mode: RecorderMode, module: nn.Module, known: _Known, averages: bool, frame: FrameType) -> None:
    # (those that it averages: what was added to the module since it was wrapped is not among them)
    averaged = [] if known.changes else getattr(module, "_module_parameters", None) or list(module.parameters())
    parameters = [one for one in averaged if one.requires_grad]
    detail = {"averages": averages, "is_last": known.changes == CHANGES - 1}
    if parameters:
        detail["finds_unused"] = bool(getattr(module, "find_unused_parameters", False))
        detail["ignores"] = bool(getattr(module, "parameters_to_ignore", ()))
    mode.observer.observe_event(_DDP_FORWARD, frame, mode.thread, known.number, detail, parameters)
