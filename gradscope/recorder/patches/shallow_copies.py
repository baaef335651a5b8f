"""Where the program calls ``copy.copy`` on a module, which gives the copy the parameters of the module itself.

Torch has no call of its own for that: ``copy`` makes an object without them and hands it the module's attributes, by
``__setstate__``, as ``copy.deepcopy`` and unpickling do with copies of them.
"""

from __future__ import annotations

import copy
import sys
import weakref
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

_SHALLOW_COPY = int(EventKind.SHALLOW_COPY)
_COPYING = getattr(getattr(copy, "_reconstruct", None), "__code__", None)
"""The code of ``copy`` that makes an object from the parts of another one; None where it has another name."""
_LIMIT = 64
"""Copies of one module that are noted."""
_known: dict[int, tuple[weakref.ref[nn.Module], int, int]] = {}
"""For each module by its ``id``: itself, its number, and how many copies were noted."""
_next = count()


def reported(setstate: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``nn.Module.__setstate__`` while a recorder is at work."""

    @wraps(setstate)
    def takes(module: nn.Module, state: Any) -> Any:
        result = setstate(module, state)
        frame = sys._getframe(1)
        if _COPYING is None or frame.f_code is not _COPYING or is_dynamo_compiling() or not is_ours_on_top():
            return result
        original, memo = frame.f_locals.get("x"), frame.f_locals.get("memo")
        if memo is None and isinstance(original, nn.Module) and original.__dict__.get("_parameters") is not None:
            note("copy.copy", lambda mode: _observe(mode, original, frame))
        return result

    return takes


def forget() -> None:
    """Note each module's parameters anew: another recording begins."""
    _known.clear()


def _observe(mode: RecorderMode, original: nn.Module, frame: FrameType) -> None:
    held = _known.get(id(original))
    is_new = held is None or held[0]() is not original
    _, number, times = (weakref.ref(original), next(_next), 0) if held is None or is_new else held
    parameters = list(original.parameters())
    if parameters and times < _LIMIT:
        _known[id(original)] = weakref.ref(original), number, times + 1
        detail = {"module": type(original).__name__}
        mode.observer.observe_event(_SHALLOW_COPY, frame, mode.thread, number, detail, parameters if not times else [])
