"""The instrument: one ``TorchFunctionMode`` a thread. This is the hot path: it runs for every call of a torch function.

It sees ``requires_grad_()``, ``.data`` and grad modes, and outputs that already carry their ``grad_fn``; it is off
while it handles a call, so what torch's own Python does inside stays hidden.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from torch.compiler import is_dynamo_compiling
from torch.overrides import TorchFunctionMode

from gradscope.recorder.calls.collective_calls import caller_of
from gradscope.recorder.calls.faults import is_programs
from gradscope.recorder.calls.torch_functions import DeepCopy, ViewOfItself
from gradscope.recorder.places.callers import (
    HANDLE_CODE,
    PLAIN_PLACE,
    Located,
    caller_behind_mode,
    caller_behind_recorder,
)
from gradscope.recorder.torch_internals.capabilities import sequence_number, tracing_state
from gradscope.recording.rows import OpKind

if TYPE_CHECKING:
    from types import FrameType

    from gradscope.recorder.calls.observer import Observer
    from gradscope.recorder.calls.shielded_observer import ShieldedObserver
    from gradscope.recorder.calls.torch_functions import Function
    from gradscope.recorder.places.call_sites import Site

_READS = (int(OpKind.READ_GRAD), int(OpKind.EXPORT))
_COLLECTIVE = int(OpKind.COLLECTIVE)
_PASSES = (int(OpKind.BACKWARD), int(OpKind.GRAD))
_getframe = sys._getframe


class RecorderMode(TorchFunctionMode):
    """Hands every torch function called in one thread to an observer.

    Args:
        observer: What records the calls.
        thread: The thread's number in the recording.
        core: The native core that records the usual calls, where there is one: see :mod:`.core`.
    """

    __slots__ = ("core", "inside", "muted", "thread")

    def __init__(self, observer: Observer | ShieldedObserver, thread: int, core: Any = None) -> None:
        super().__init__()
        self.core = core
        self.observer = observer
        self.functions = observer.functions
        self.places = observer.sites.places
        self.thread = thread
        self.muted = False
        """Calls of this thread are not recorded for a while."""
        self.inside: Any = None
        """What stands for it inside a backward pass, once one ran."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if is_dynamo_compiling():  # constant to torch.compile, which then traces the call as if we were not there
            return func(*args, **kwargs) if kwargs else func(*args)
        observer = self.observer
        try:
            info = self.functions.get(func) or observer.learn(func)
        except Exception as fault:  # a callable of the program's that has no hash, or whose attributes raise
            if is_programs(fault):
                raise
            info = observer.learn_type(type(func))
        if info.ignored and info.code is None:  # torch's C++ hands over what it was asked for
            return func(*args, **kwargs) if kwargs else func(*args)
        frame = _getframe(1)
        if frame.f_code is HANDLE_CODE:
            # A function of torch's Python handed the call to the mode: the caller is above both.
            asking = frame.f_back
            given = len(args) + len(kwargs) if kwargs else len(args)
            if info.code is not asking.f_code or info.parameters not in (-1, given):  # type: ignore[union-attr]
                try:
                    func, info, kwargs = observer.asked.meant(func, info, asking, args, kwargs)  # type: ignore[arg-type]
                except Exception as fault:
                    if is_programs(fault):
                        raise
                    observer.fault(info.name)
            frame, asking = asking.f_back, None  # type: ignore[union-attr,assignment]
            if info.kind == _COLLECTIVE:
                frame = caller_of(frame)
        if info.ignored or self.muted or observer.muted or tracing_state() is not None:  # read, we would be traced
            return func(*args, **kwargs) if kwargs else func(*args)
        try:
            place = self.places.get((id(frame.f_code), frame.f_lasti)) or observer.new_place(frame)
            if place.is_recorder:
                # Another recorder, inside this one, calls for its program (or asks for itself: then it has no caller).
                outer = caller_behind_recorder(frame)
                if outer is not None:
                    frame = outer
                    place = self.places.get((id(frame.f_code), frame.f_lasti)) or observer.new_place(frame)
            site = place.site
            if place.is_mode:  # its code calls, for a line elsewhere
                outer = caller_behind_mode(frame, func)
                if outer is not None:
                    frame, outer = outer, None
                    site = (self.places.get((id(frame.f_code), frame.f_lasti)) or observer.new_place(frame)).site
            located, is_full = None, observer.full
            if place.is_recorder or (is_full and observer.takes_over(info, site, frame)):
                pass
            elif site is not None:
                of_itself = type(info) is ViewOfItself and len(args) == 2 and args[0] is args[1]
                located = observer.sites.of_apply(site, frame) if of_itself else Located(site, frame)
            elif info.kind not in _READS:  # else torch's own Python looks at a gradient or a value
                located = observer.locate(frame)
            before = None
            looked_at = args[:1] if type(info) is DeepCopy else args
            if is_full:
                if located and info.kind in _PASSES:
                    observer.begin_pass_after_limit(args, kwargs, located, self.thread)
            elif located and (info.mutates or kwargs):
                before = observer.before(info, located, looked_at, kwargs, self.thread)
        except Exception as fault:
            if is_programs(fault):
                raise
            observer.fault(info.name)
            place, located = PLAIN_PLACE, None
        if located is None:  # called out here: what it raises is the program's, and it must not be called again
            frame = outer = None  # type: ignore[assignment]
            return place.call(func, args, kwargs)
        since = sequence_number()
        try:
            result = place.call(func, args, kwargs)
        except BaseException as error:
            # Our caller's frame goes from the traceback, and with it what its arguments would keep alive.
            inner = error.__traceback__.tb_next  # type: ignore[union-attr]
            # (by the method: a class of the program's may refuse that attributes are set)
            BaseException.with_traceback(error, inner.tb_next if inner is not None else None)
            observer.observe_error(info, located, (args, kwargs), before, self.thread, error)
            # This frame stays in the traceback: what it refers to would live as long as the error.
            func = args = looked_at = kwargs = located = before = frame = inner = None  # type: ignore[assignment]
            __tracebackhide__ = True  # pytest and IPython leave out a frame with this name
            raise error
        try:
            with observer.lock:
                if is_full:
                    observer.count(info, located, result, self.thread)
                    return result
                observer.observe(info, located, looked_at, kwargs, result, before, since, self.thread)
        except Exception as fault:
            if is_programs(fault):
                raise
            observer.fault(info.name)
        return result

    # What the native core calls. It has the same call in hands, and what it was given is named as above.

    def _record(
        self,
        info: Function,
        site: Site,
        user: FrameType,
        below: int,
        args: Any,
        kwargs: Any,
        result: Any,
        before: Any,
        since: int,
    ) -> None:
        """Record a call that has returned and turned out to be unusual."""
        observer = self.observer
        try:
            with observer.lock:
                located = Located(site, user, below=below)
                if observer.full:  # (another thread has filled it meanwhile)
                    observer.count(info, located, result, self.thread)
                else:
                    observer.observe(info, located, args, kwargs, result, before, since, self.thread)
        except Exception as fault:
            if is_programs(fault):
                raise
            observer.fault(info.name)

    def _raised(
        self,
        info: Function,
        site: Site,
        user: FrameType,
        below: int,
        args: Any,
        kwargs: Any,
        before: Any,
        error: BaseException,
        is_through: bool,
    ) -> None:
        """Record a call that has raised; the frame through which it was called goes from the traceback."""
        if is_through and error.__traceback__ is not None:
            BaseException.with_traceback(error, error.__traceback__.tb_next)
        self.observer.observe_error(info, Located(site, user, below=below), (args, kwargs), before, self.thread, error)

    def _failed(self, info: Function, error: BaseException) -> None:
        """Keep an error of the core's; one that was raised into the program at that moment is raised."""
        try:
            raise error
        except Exception as fault:
            if is_programs(fault):
                raise
            self.observer.fault(info.name)
