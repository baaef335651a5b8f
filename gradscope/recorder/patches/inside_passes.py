"""Code of the program's that runs inside a backward pass: hooks of any kind, and what unpacks saved tensors.

The recorder's mode is off while it handles the call that began the pass. So another one is on while the engine runs,
which takes it along, into threads of its own as well. It counts calls (see :mod:`.inside_counts`) and notes what they
write (see :mod:`.inside_writes`). What torch's or a library's Python does in a pass is part of the pass.
"""

from __future__ import annotations

from types import FrameType
from typing import Any

import torch

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.observer import Observer
from gradscope.recorder.calls.shielded_observer import ShieldedObserver
from gradscope.recorder.calls.torch_functions import Function
from gradscope.recorder.patches.inside_counts import count_call, draws
from gradscope.recorder.patches.inside_writes import PlaceEffect, note_effect
from gradscope.recorder.patches.threads import modes_of_this_thread
from gradscope.recorder.places.callers import Located
from gradscope.recorder.state.tensors_in import arguments_of, grad_of, tensors_in, version_of
from gradscope.recording.rows import OpKind
from gradscope.recording.tables import NONE

HOOKS = "hooks"
"""What is said to have made the calls."""

_GRAD = int(OpKind.GRAD)
_PASSES = (int(OpKind.BACKWARD), _GRAD)
_SETS_GRAD = ("Tensor.grad.__set__", "Tensor.grad.__delete__")
_height = torch._C._len_torch_function_stack
_push, _pop = torch._C._push_on_torch_function_stack, torch._C._pop_torch_function_stack


class _Asked(list[Any]):
    """The tensors whose gradient a call asks for."""


class _PassBegun:
    """A pass that runs, and the frame that began it."""

    __slots__ = ("begun", "frame")

    def __init__(self, frame: FrameType) -> None:
        self.frame = frame
        self.begun: Located | None = None  # where the user's code began it, once that was asked for


class _Inside:
    """Stands for an observer inside the passes of one thread.

    Args:
        observer: The recording's.
        within: What makes the calls.
        under_way: The passes, the outermost first: a hook may begin another one.
    """

    full = False

    def __init__(self, observer: Observer | ShieldedObserver, within: str, under_way: list[_PassBegun]) -> None:
        self._observer = observer
        self._within = within
        self._under_way = under_way
        self._group: Any = None
        """The call into torch's own Python that is under way."""

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "_observer"), name)

    def locate(self, frame: FrameType) -> Located | None:
        """The place in the program's code below the pass from which somebody else's frame was called, if it is."""
        located = self._observer.locate(frame)
        if located.site.span == NONE:
            return None
        is_outside = any(located.user is self._begun(one).user for one in self._under_way)
        return None if is_outside else located

    def before(self, info: Function, _located: Located, args: Any, kwargs: Any, _thread: int) -> Any:
        """What must be known before a call that may write; of one that asks for gradients, of what."""
        if info.kind in _PASSES:
            inputs = kwargs.get("inputs", args[1] if info.kind == _GRAD and len(args) > 1 else ())
            return _Asked(tensors_in(inputs))
        if not (info.mutates or "out" in kwargs):
            return None
        if info.name in _SETS_GRAD:
            return grad_of(args[0]) is not None
        return [(tensor, version_of(tensor)) for tensor in arguments_of(args, kwargs)]

    def observe(
        self,
        info: Function,
        located: Located,
        args: Any,
        kwargs: Any,
        _result: Any,
        before: Any,
        *_: int,
    ) -> None:
        """Count a call that has returned, and note what it wrote."""
        self._count(info, located, self._within != HOOKS and draws(info.name, kwargs or {}))
        if before is None:
            return
        if type(before) is _Asked:
            self._note(info, located, "asked", before)
            return
        if isinstance(before, bool):
            has_one = grad_of(args[0]) is not None
            if has_one or before:
                self._note(info, located, "set" if has_one else "cleared", [args[0]])
            return
        uncounted = info.uncounted.by_call(args, kwargs or {}) if info.uncounted is not None else []
        written = [tensor for tensor, version in before if version_of(tensor) != version]
        written += [tensor for value, certainty in uncounted if certainty for tensor in tensors_in(value)]
        if written:
            self._note(info, located, "wrote", written)

    def observe_error(self, info: Function, located: Located, *_: Any) -> None:
        """Count a call that has raised."""
        with self._observer.lock:
            self._count(info, located)

    def _count(self, info: Function, located: Located, drew: bool = False) -> None:
        if located.group is None or located.group != self._group:
            count_call(self._observer.tape, located.site.span, located.label or info.name, self._within, drew)
        self._group = located.group

    def _note(self, info: Function, located: Located, did: str, tensors: list[Any]) -> None:
        observer = self._observer
        rows = {observer.identity.row_of(tensor) for tensor in tensors} - {NONE}
        if rows and self._under_way:
            begun_at = self._begun(self._under_way[-1]).site.span
            effect = PlaceEffect(located.site.span, begun_at, located.label or info.name, did)
            note_effect(observer.tape, effect, sorted(rows))

    def _begun(self, one: _PassBegun) -> Located:
        if one.begun is None:
            one.begun = self._observer.locate(one.frame)
        return one.begun


class InsideMode(RecorderMode):
    """A recorder's mode for what the program does inside backward passes of one thread."""

    def __init__(self, mode: RecorderMode, within: str, under_way: list[_PassBegun]) -> None:
        observer: Any = _Inside(mode.observer, within, under_way)
        super().__init__(observer, mode.thread)
        self.outside = mode
        self.under_way = under_way


def begin_pass(frame: FrameType, roots: Any) -> list[InsideMode]:
    """The engine is about to run for a frame: put a mode on for each recorder whose own is off as it handles the call.

    Args:
        frame: What asks for the pass.
        roots: From where.

    Returns what :func:`end_pass` is to be given. (Two functions, so that none of our frames is added to the program's:
    torch puts its warnings down to a frame so many above.)
    """
    modes = [mode.inside or _inside(mode) for mode in modes_of_this_thread() if _is_off(mode)]
    for mode in modes:
        if mode.under_way:
            observer = mode.outside.observer
            with observer.lock:
                observer.passes.leads_on(mode.thread, roots)
        mode.under_way.append(_PassBegun(frame))
        _push(mode)
    return modes


def end_pass(modes: list[InsideMode]) -> None:
    """The engine is done, or has raised."""
    for mode in reversed(modes):
        mode.under_way.pop()
        _pop()


def inside_function(mode: RecorderMode, name: str, frame: FrameType) -> InsideMode:
    """The mode for what a function of the program's does that the engine calls; where it was called from is given."""
    under_way = mode.inside.under_way if mode.inside is not None else []
    return InsideMode(mode, name, under_way or [_PassBegun(frame)])


def _is_off(mode: RecorderMode) -> bool:
    """Whether a recorder's mode is to be stood for: it is at work and not on the stack, nor what stands for it."""
    observer = mode.observer
    if mode.muted or observer.muted or observer.full:
        return False
    if not _height():
        return True
    stack = [torch._C._get_function_stack_at(at) for at in range(_height())]
    return mode not in stack and mode.inside not in stack


def _inside(mode: RecorderMode) -> InsideMode:
    mode.inside = found = InsideMode(mode, HOOKS, [])
    return found
