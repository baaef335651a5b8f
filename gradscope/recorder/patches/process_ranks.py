"""Which process of how many this is, where no launcher says so and ``torch.distributed.init_process_group`` does."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from torch import distributed

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.patches.noting import note

NAME = "init_process_group"


def reported(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for the function while a recorder is at work."""

    @wraps(init)
    def begins(*args: Any, **kwargs: Any) -> None:
        init(*args, **kwargs)
        note(NAME, _observe)

    return begins


def _observe(mode: RecorderMode) -> None:
    info = mode.observer.tape.recording.info
    if info.world_size == 1 and distributed.get_world_size() > 1:
        info.rank, info.world_size = distributed.get_rank(), distributed.get_world_size()
        info.local_rank = info.rank
