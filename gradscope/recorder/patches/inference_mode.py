"""``torch.inference_mode`` as ops: function modes are not told where it is entered and left."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.modes_aside import aside, is_ours_on_top
from gradscope.recorder.torch_internals.capabilities import tracing_state


def reported(method: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``inference_mode.__enter__`` or ``__exit__`` while a recorder is at work."""

    name = f"inference_mode.{method.__name__}"

    @wraps(method)
    def sets(*args: Any) -> Any:
        result = method(*args)
        if not is_dynamo_compiling() and is_ours_on_top() and tracing_state() is None:
            with aside() as modes:
                for mode in modes:
                    try:
                        if not (mode.muted or mode.observer.muted):
                            mode.observer.observe_mode(name, mode.thread, sys._getframe(1))
                    except Exception as fault:
                        if is_programs(fault):
                            raise
                        mode.observer.fault("inference_mode")
        return result

    return sets
