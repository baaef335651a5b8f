"""Whether two tensors share a version counter: views do, of others it is measured where no thread could notice it."""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import torch

from gradscope.frames.whose_file import is_gradscope, is_installed, is_standard_library, within
from gradscope.recorder.places.code_owners import is_torch
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.torch_internals.capabilities import version_setter
from gradscope.recording.tables import NONE

_COMPILERS = within(Path(torch.__file__).parent / "_inductor")
"""Its threads wait for compilers in other processes, as long as the program runs."""


def shares_version(tensor: Any, other: Any) -> int:
    """1 or 0, or NONE where it cannot be told: one of them has no counter, or another thread is in the middle of an op.

    A view that autograd knows has its base's. Counters that differ are two. Where they agree, one is set, the other
    looked at, and the first set back.
    """
    if type(tensor) not in PLAIN or type(other) not in PLAIN or tensor.is_inference() or other.is_inference():
        return NONE
    if tensor._is_view() and _has_base(other, tensor._base):
        return 1
    version = tensor._version
    if version != other._version:
        return 0
    if _another_thread_may_be_in_torch():
        return NONE  # it may check the counter, or count it up, at this very moment
    steps: tuple[Any, ...] = (
        version_setter(tensor, version + 1),
        partial(getattr, other, "_version"),
        version_setter(tensor, version),
    )
    # ``map`` calls them one after the other without a point at which Python may switch threads or run a signal handler.
    _, seen, _ = map(partial.__call__, steps)
    return int(seen != version)


def _has_base(tensor: Any, base: Any) -> bool:
    return base is tensor or (tensor._is_view() and tensor._base is base)


def _another_thread_may_be_in_torch() -> bool:
    """Whether a thread is in torch, in us or in the program itself; others wait in a library for something."""
    if threading.active_count() == 1:
        return False
    frames = sys._current_frames()
    del frames[threading.get_ident()]
    return not all(_waits(frame.f_code.co_filename) for frame in frames.values())


def _waits(file: str) -> bool:
    if file.startswith(_COMPILERS):
        return True
    return (is_installed(file) or is_standard_library(file)) and not (is_torch(file) or is_gradscope(file))
