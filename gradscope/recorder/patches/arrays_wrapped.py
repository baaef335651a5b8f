"""``torch.from_numpy``, of which no function mode is told: that a tensor was put on an array is noted here.

The tensor itself is entered where it is used, as what no seen call made.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any

from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note


def reported(from_numpy: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``torch.from_numpy`` while a recorder is at work."""

    @wraps(from_numpy)
    def wraps_array(*args: Any, **kwargs: Any) -> Any:
        tensor = from_numpy(*args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            frame = sys._getframe(1)
            note("torch.from_numpy", lambda mode: _observe(mode, tensor, frame))
        return tensor

    return wraps_array


def _observe(mode: RecorderMode, tensor: Any, frame: FrameType) -> None:
    mode.observer.observe_wrapped(tensor, frame)
