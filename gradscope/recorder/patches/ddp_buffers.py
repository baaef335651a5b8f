"""That a forward of a ``DistributedDataParallel`` sends its buffers from one process to the others, seen by no mode.

It is noted before it begins: a process whose others are in no forward waits there for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import nn
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recording.rows import EventKind

METHOD = "_sync_buffers"
_DDP_BUFFERS = int(EventKind.DDP_BUFFERS)


def reported(sync_buffers: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for the method while a recorder is at work."""

    @wraps(sync_buffers)
    def sends(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not is_dynamo_compiling() and is_ours_on_top():
            frame = sys._getframe(1)
            note(
                "DistributedDataParallel",
                lambda mode: mode.observer.observe_event(_DDP_BUFFERS, frame, mode.thread, 0, {}, ()),
            )
        return sync_buffers(module, *args, **kwargs)

    return sends
