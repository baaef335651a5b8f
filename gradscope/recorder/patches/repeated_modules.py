"""Lists of modules that hold one module several times: seen when they are made."""

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


def reported(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``__init__`` of ``nn.ModuleList`` and ``nn.Sequential`` while a recorder is at work."""

    @wraps(init)
    def makes(module: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(module, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            frame = sys._getframe(1)
            note("repeated module", lambda mode: _observe(mode, module, frame))

    return makes


def _observe(mode: RecorderMode, module: nn.Module, frame: FrameType) -> None:
    counts = Counter(id(one) for one in module._modules.values() if one is not None)
    held = {id(one): one for one in module._modules.values() if one is not None}
    for key, times in counts.items():
        parameters = list(held[key].parameters()) if times > 1 else []
        if parameters:
            detail = {"list": type(module).__name__, "module": type(held[key]).__name__, "times": times}
            mode.observer.observe_event(_REPEATED_MODULE, frame, mode.thread, next(_next), detail, parameters)
