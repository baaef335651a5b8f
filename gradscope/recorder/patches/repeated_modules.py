"""Modules that hold one module several times: seen when they are made, or when it is added once more."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any

from torch import nn
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

_REPEATED_MODULE = int(EventKind.REPEATED_MODULE)
_next = count()
_WHILE_MADE = ("__init__", "extend", "__iadd__")
"""Methods of torch's that add modules one by one while a list of them is made: it is looked at when it is there."""


def reported(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``__init__`` of ``nn.ModuleList`` and ``nn.Sequential`` while a recorder is at work."""

    @wraps(init)
    def makes(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(module, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            frame = sys._getframe(1)
            note("repeated module", lambda mode: _observe(mode, module, frame))

    return makes


def adding_reported(add_module: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``nn.Module.add_module``, which ``nn.ModuleList.append`` calls too."""

    @wraps(add_module)
    def adds(owner: nn.Module, name: str, module: nn.Module | None) -> None:
        add_module(owner, name, module)
        if module is None or is_dynamo_compiling() or not is_ours_on_top():
            return
        frame = sys._getframe(1)
        is_of_torch = frame.f_globals.get("__name__") == "torch.nn.modules.container"
        if not (is_of_torch and frame.f_code.co_name in _WHILE_MADE):
            times = sum(one is module for one in owner._modules.values())
            if times > 1:
                note("repeated module", lambda mode: _report(mode, owner, module, times, frame))

    return adds


def _observe(mode: RecorderMode, module: nn.Module, frame: FrameType) -> None:
    counts = Counter(id(one) for one in module._modules.values() if one is not None)
    held = {id(one): one for one in module._modules.values() if one is not None}
    for key, times in counts.items():
        if times > 1:
            _report(mode, module, held[key], times, frame)


def _report(mode: RecorderMode, owner: nn.Module, module: nn.Module, times: int, frame: FrameType) -> None:
    if parameters := list(module.parameters()):
        detail = {"list": type(owner).__name__, "module": type(module).__name__, "times": times}
        mode.observer.observe_event(_REPEATED_MODULE, frame, mode.thread, next(_next), detail, parameters)
