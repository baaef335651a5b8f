"""Code under ``torch.compile``: the recorders' modes are off wherever dynamo looks at what runs.

Dynamo would follow a mode's own Python code into its graphs: it breaks them in other places, is wrong about some, and
names our files in its warnings. It says when it begins and ends to look, thread by thread, by setting the function
that evaluates frames; the modes go and come with that. What a program shields (``torch.compiler.disable``), what runs
before and after, and what runs eagerly instead (``set_stance``) is recorded as ever.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from torch.optim import Optimizer

from gradscope.frames.tracebacks import is_own
from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import put_back, take_aside
from gradscope.recorder.torch_internals.dynamo import eval_frame, skip_code

_SetEvalFrame = Callable[[Any], Any]
_NAME = "set_eval_frame"
_HOLDERS = ("torch._dynamo.eval_frame", "torch._dynamo.decorators")
"""Modules that have imported the function by name."""
_COPIES = (_NAME, "_maybe_set_eval_frame")


class _Aside(threading.local):
    """What was taken off the stack of this thread."""

    modes: tuple[RecorderMode, ...] = ()


_aside = _Aside()
_installed: list[tuple[_SetEvalFrame, _SetEvalFrame]] = []
"""torch's function and ours, while ours is in its place."""


def _following(set_eval_frame: _SetEvalFrame) -> _SetEvalFrame:
    def sets(callback: Any) -> Any:
        if callback is None:
            before = set_eval_frame(None)
            if before is not None:  # else dynamo compiles at this moment: it is not the program's code that comes
                modes, _aside.modes = _aside.modes, ()
                put_back(modes)
            return before
        if not _aside.modes:
            _aside.modes = take_aside()
        return set_eval_frame(callback)

    return sets


def _places() -> Iterator[tuple[Any, str]]:
    yield eval_frame, _NAME
    for holder in _HOLDERS:
        module = sys.modules.get(holder)
        if module is not None:
            for name in _COPIES:
                yield module, name


def _exchange(old: _SetEvalFrame, new: _SetEvalFrame) -> None:
    for owner, name in _places():
        if getattr(owner, name, None) is old:
            setattr(owner, name, new)


def install() -> None:
    """Take the modes off where dynamo is at work, from now on."""
    set_eval_frame = getattr(eval_frame, _NAME, None)
    if set_eval_frame is not None:
        ours, show = _following(set_eval_frame), vars(warnings)["_showwarnmsg"]
        for function in (ours, show, Optimizer.zero_grad):  # what stands for others' functions
            if is_own(function.__code__):
                skip_code(function.__code__)
        _installed.append((set_eval_frame, ours))
        _exchange(set_eval_frame, ours)


def remove() -> None:
    """Put torch's own function back, wherever it was imported meanwhile."""
    while _installed:
        set_eval_frame, ours = _installed.pop()
        _exchange(ours, set_eval_frame)
