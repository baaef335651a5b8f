"""What the program's own ``autograd.Function`` computes in its backward: which calls, how often, and what they wrote.

The engine calls it in the midst of a pass. A mode of its own is put on for it, as for a checkpointed function that runs
again; for the backward of others' Functions (compiled code among them) none is on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType
from typing import Any

from torch._C import DisableTorchFunction
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import put_back, take_aside, uppermost
from gradscope.recorder.patches.inside_passes import InsideMode, inside_function
from gradscope.recorder.patches.threads import modes_of_this_thread
from gradscope.recorder.places.code_owners import Owner

METHODS = ("apply", "apply_boxed")
"""Of ``torch.autograd.function.BackwardCFunction``: what the engine calls, each if it is there."""


def counted(apply: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for one of the methods while a recorder is at work."""

    @wraps(apply)
    def applies(node: Any, *args: Any) -> Any:
        if is_dynamo_compiling():
            return apply(node, *args)
        aside = take_aside(InsideMode)
        ours: tuple[InsideMode, ...] = tuple(_modes_for(node, aside, sys._getframe(1)))
        put_back(ours)
        returned: Any = None
        try:
            returned = apply(node, *args)
        finally:
            if ours:
                take_aside(InsideMode)
                _keep_gradients(ours, node, args, returned)
            put_back(aside)
        return returned

    return applies


def _keep_gradients(modes: tuple[InsideMode, ...], node: Any, given: tuple[Any, ...], returned: Any) -> None:
    for observer in {mode.outside.observer for mode in modes}:
        if observer.forwards.awaits:
            with observer.lock, DisableTorchFunction():
                observer.forwards.returned(node, given, returned)


def _modes_for(node: Any, aside: tuple[RecorderMode, ...], frame: FrameType) -> Iterator[InsideMode]:
    """The modes to be on while a node's backward runs, which a frame calls; what is taken aside for it is given."""
    if isinstance(uppermost(), RecorderMode):
        return
    function: Any = getattr(node, "_forward_cls", None)
    code = getattr(getattr(function, "backward", None), "__code__", None)
    if code is None:
        return
    outside = [mode.outside for mode in aside if isinstance(mode, InsideMode)] or reversed(modes_of_this_thread())
    for mode in outside:
        is_at_work = not (mode.muted or mode.observer.muted)
        if is_at_work and mode.observer.sites.owners.of(code) is Owner.USER:
            yield inside_function(mode, f"{function.__name__}.backward", frame)
