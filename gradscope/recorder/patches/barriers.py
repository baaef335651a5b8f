"""``torch.distributed.barrier`` as an op: no tensor goes into it, so that function modes are not told of it.

Only what stands in ``torch.distributed`` is replaced: torch's own Python waits by the functions of the module below.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from torch import distributed
from torch.compiler import is_dynamo_compiling

from gradscope.frames.replacements import Replacement
from gradscope.recorder.calls.collective_calls import detail_of
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note

NAMES = ("barrier", "monitored_barrier")


def replacements() -> Iterator[Replacement]:
    """What is put into ``torch.distributed``, where this torch was built with it."""
    for name in NAMES:
        if hasattr(distributed, name):
            yield Replacement(distributed, name, _reported)


def _reported(barrier: Callable[..., Any]) -> Callable[..., Any]:
    name = f"dist.{barrier.__name__}"

    @wraps(barrier)
    def waits(*args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not is_ours_on_top():
            return barrier(*args, **kwargs)
        frame = sys._getframe(1)
        given = {"group": args[0], **kwargs} if args else kwargs
        note(name, lambda mode: mode.observer.begin_collective(detail_of(name, given, ()), mode.thread, frame))
        try:
            result = barrier(*args, **kwargs)
        except BaseException as raised:
            error = raised
            note(name, lambda mode: mode.observer.end_collective(name, mode.thread, frame, error))
            del error, frame  # else they would live as long as the error's traceback
            raise
        note(name, lambda mode: mode.observer.end_collective(name, mode.thread, frame))
        return result

    return waits
