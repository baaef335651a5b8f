"""Writes by methods of a storage: no function mode is told of them, and no version counter shows them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note

METHODS = ("copy_", "fill_", "__setitem__")


def reported(method: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for a method of ``UntypedStorage`` that writes while a recorder is at work."""

    name = f"UntypedStorage.{method.__name__}"

    @wraps(method)
    def writes(storage: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(storage, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            frame = sys._getframe(1)
            note(name, lambda mode: mode.observer.observe_storage_write(name, storage, mode.thread, frame))
        return result

    return writes
