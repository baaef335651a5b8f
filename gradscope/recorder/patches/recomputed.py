"""What is computed inside a backward pass: which calls, and how often; not their tensors.

A pass runs with the recorder's mode off, on CUDA in a thread of autograd's own. A mode that only counts is put on for
a checkpointed function that runs again, so that ``×N`` of its lines is how often they ran. (Other code of the program's
in a pass: :mod:`.inside_passes`, :mod:`.function_backwards`.)
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import Any

import torch
from torch.compiler import is_dynamo_compiling
from torch.utils import checkpoint

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import put_back, take_aside
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.torch_functions import Function
from gradscope.recorder.patches.inside_counts import count_call
from gradscope.recorder.patches.inside_passes import InsideMode
from gradscope.recorder.patches.state_when_run_again import RerunWatch, watched
from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.state.tensors_in import tensors_in
from gradscope.recording.tables import NONE


class _Counting:
    """Stands for an observer: counts what a function calls.

    Args:
        observer: The recording's.
        outer: The user's frame that asked for the backward pass, if it is in this thread: what is put down to it was
            not called by the function.
    """

    full = True

    def __init__(self, observer: Observer, outer: FrameType | None) -> None:
        self._observer = observer
        self._outer = outer
        self._group: Any = None
        """The call into torch's own Python that is under way."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._observer, name)

    def takes_over(self, info: Function, site: Site | None, frame: FrameType) -> bool:
        """Count a call; without a site, its frame is somebody else's."""
        observer = self._observer
        with observer.lock:
            name, group = info.name, None
            if site is None:
                located = observer.sites.locate(frame)
                if located.site.span == NONE or (located.user is not None and located.user is self._outer):
                    return True
                site, group = located.site, located.group
                name = located.label or name
            if group is None or group != self._group:
                count_call(observer.tape, site.span, name, "")
            self._group = group
        return True


class CountingMode(RecorderMode):
    """A recorder's mode for what runs inside a backward pass."""

    def __init__(self, mode: RecorderMode, outer: FrameType | None) -> None:
        observer: Any = _Counting(observer_of(mode), outer)
        super().__init__(observer, mode.thread)


def observer_of(mode: RecorderMode) -> Any:
    """The observer of a recorder's mode, of one that counts too."""
    observer = mode.observer
    return observer._observer if isinstance(observer, _Counting) else observer


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """A checkpointed function that is counted when it runs again, by the recorders that are at work now."""
    modes = list(_modes_on_top())
    if not modes or is_dynamo_compiling():
        return function

    def runs_again(*args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            if not is_dynamo_compiling():
                stack.callback(put_back, take_aside(InsideMode))
                outer = user_frame(sys._getframe(1), modes[0])
                for mode in reversed([one for one in modes if not observer_of(one).muted]):
                    stack.enter_context(CountingMode(mode, outer))
            return function(*args, **kwargs)

    return runs_again


def count_in_backward(result: Any, watches: list[RerunWatch]) -> None:
    """Let the function be counted and watched that reentrant checkpoint ran, when the backward of its node runs it."""
    for tensor in tensors_in(result):
        node = tensor.grad_fn
        if getattr(type(node), "_forward_cls", None) is checkpoint.CheckpointFunction:
            node.run_function = counted(watched(node.run_function, watches))
            return


def _modes_on_top() -> Iterator[RecorderMode]:
    for mode in reversed(torch.overrides._get_current_function_mode_stack()):  # type: ignore[no-untyped-call]
        if not isinstance(mode, RecorderMode):
            return
        if not mode.muted:
            yield mode


def user_frame(frame: FrameType | None, mode: RecorderMode) -> FrameType | None:
    """The innermost frame of the program's."""
    owners = mode.observer.sites.owners
    while frame is not None and owners.of(frame.f_code) is not Owner.USER:
        frame = frame.f_back
    return frame
