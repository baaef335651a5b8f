"""Where the program seeds torch's generator of random numbers, and whether that was found as it was found there before.

Which numbers are drawn is not looked at: a generator that is seeded alike and has come to the same state has given the
same numbers since. Its state is read only there, and read only; that draws nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from ctypes import string_at
from functools import wraps
from types import CodeType, FrameType
from typing import Any
from zlib import crc32

import torch
from torch.compiler import is_dynamo_compiling

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.places.frames_around import spans_around
from gradscope.recording.rows import EventKind

NAME = "manual_seed"
_SEEDED = int(EventKind.SEEDED)
_LIMIT = 128
"""Calls of one place that are noted: a program may seed for each of its samples."""
_PLACES = 1024
_Place = tuple[CodeType, int, CodeType | None, int]
_known: dict[_Place, tuple[int, int, int]] = {}
"""For each place: the seed there, what the state of the generator was before, and how many calls were noted."""


def reported(manual_seed: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``torch.manual_seed`` while a recorder is at work."""

    @wraps(manual_seed)
    def seeds(*args: Any, **kwargs: Any) -> Any:
        seed = args[0] if args else kwargs.get("seed")
        if not is_dynamo_compiling() and is_ours_on_top() and isinstance(seed, int):
            frame = sys._getframe(1)
            note("manual_seed", lambda mode: _observe(mode, seed, frame))
        return manual_seed(*args, **kwargs)

    return seeds


def forget() -> None:
    """Take no call for the second one of its place: another recording begins."""
    _known.clear()


def _observe(mode: RecorderMode, seed: int, frame: FrameType) -> None:
    caller = frame.f_back
    place = (
        frame.f_code,
        frame.f_lasti,
        caller.f_code if caller is not None else None,
        caller.f_lasti if caller is not None else -1,
    )
    before, found, times = _known.get(place, (0, 0, 0))
    if times >= _LIMIT or (not times and len(_known) >= _PLACES):
        return
    state = torch.default_generator.get_state()
    digest = crc32(string_at(state.data_ptr(), state.nbytes))
    _known[place] = seed, digest, times + 1
    detail: dict[str, Any] = {"seed": seed, "again": bool(times) and before == seed and found == digest}
    around = spans_around(mode.observer.sites, frame)
    if len(around) > 1:  # a helper seeds: who called it tells what for
        detail["through"] = around
    mode.observer.observe_event(_SEEDED, frame, mode.thread, 0, detail, ())
