"""What the program's own ``autograd.Function`` computes in its backward: which calls, and how often; not their tensors.

The engine calls it in the midst of a pass, with the recorder's mode off; so a mode that only counts is put on for it,
as for a checkpointed function that runs again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

from torch.compiler import is_dynamo_compiling
from torch.overrides import _get_current_function_mode

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.patches.recomputed import CountingMode, user_frame
from gradscope.recorder.patches.threads import modes_of_this_thread
from gradscope.recorder.places.code_owners import Owner

METHODS = ("apply", "apply_boxed")
"""Of ``torch.autograd.function.BackwardCFunction``: what the engine calls, each if it is there."""


def counted(apply: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for one of the methods while a recorder is at work."""

    @wraps(apply)
    def applies(node: Any, *args: Any) -> Any:
        if is_dynamo_compiling() or isinstance(_get_current_function_mode(), RecorderMode):  # type: ignore[no-untyped-call]
            return apply(node, *args)
        modes = [mode for mode in modes_of_this_thread() if not (mode.muted or mode.observer.muted)]
        function: Any = getattr(node, "_forward_cls", None)
        code = getattr(getattr(function, "backward", None), "__code__", None)
        if not modes or code is None or modes[0].observer.sites.owners.of(code) is not Owner.USER:
            return apply(node, *args)
        outer = user_frame(sys._getframe(1), modes[0])
        within = f"{function.__name__}.backward"
        with ExitStack() as others:
            for mode in modes[:-1]:
                others.enter_context(CountingMode(mode, outer, within))
            with CountingMode(modes[-1], outer, within):
                return apply(node, *args)

    return applies
