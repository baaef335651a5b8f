"""When an optimizer steps with a learning rate of zero or next to nothing, and the schedulers that set its rate.

Of the steps, only those are noted at which a rate becomes zero (or so small) or is so no more, and the first; and that
a scheduler goes on stepping without its optimizer, or not any more. So is a state that changes the rates when it is
loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recording.rows import EventKind

_LEARNING_RATE = int(EventKind.LEARNING_RATE)
UPDATE = "_update_lr"
"""The method by which ``LRScheduler.step`` sets the rates."""

_FIRST = 2
"""How often a scheduler has stepped after the program's first call: it steps once when it is made."""
_TINY = 1e-6
"""The part of its first rate that an optimizer's rate has to fall to for its steps to be next to nothing."""
_zero: WeakKeyDictionary[Optimizer, tuple[tuple[bool, ...], bool]] = WeakKeyDictionary()
"""Which of an optimizer's groups had a rate of zero when it stepped last, and whether all were next to nothing."""
_first: WeakKeyDictionary[Optimizer, float] = WeakKeyDictionary()
"""The largest rate with which an optimizer made its first step."""
_IDLE = 2
"""Steps of a scheduler in a row between which its optimizer made none, from which on that is noted."""
_steps: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
"""Steps that an optimizer has made."""
_idle: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()
"""For a scheduler: steps of its optimizer when it stepped last, and how often it has stepped since without another."""
_noted_idle: WeakKeyDictionary[Optimizer, bool] = WeakKeyDictionary()
"""Optimizers of which it was noted that a scheduler steps without them; whether they have stepped since."""


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Look at the rates: a hook before every optimizer's step."""
    if is_dynamo_compiling():
        return
    _steps[optimizer] = _steps.get(optimizer, 0) + 1
    if _noted_idle.get(optimizer) is False:
        _noted_idle[optimizer] = True
        _report(optimizer, {"call": "busy"}, sys._getframe(1))
    known = _known_rates(optimizer)
    zero = tuple(rate == 0 for rate in known)
    largest = max((rate for rate in known if rate is not None), default=0)
    first = _first.setdefault(optimizer, largest)
    is_tiny = 0 < largest <= _TINY * first and None not in known
    if _zero.get(optimizer) != (zero, is_tiny) and is_ours_on_top():
        _zero[optimizer] = (zero, is_tiny)
        small = {"tiny": largest, "first": first} if is_tiny else {}
        _report(optimizer, {"zero": list(zero), **small}, sys._getframe(1))


def forget() -> None:
    """Note the rates of each optimizer anew: another recording begins."""
    _zero.clear()
    _first.clear()
    _steps.clear()
    _idle.clear()
    _noted_idle.clear()


def scheduler_made(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``LRScheduler.__init__`` while a recorder is at work."""

    @wraps(init)
    def makes(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        init(scheduler, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            _report(scheduler.optimizer, {"scheduler": type(scheduler).__name__, "call": "made"}, sys._getframe(1))

    return makes


def loading_reported(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.load_state_dict`` while a recorder is at work: rates that it changes are noted."""

    @wraps(load_state_dict)
    def loads(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        before = _known_rates(optimizer)
        load_state_dict(optimizer, *args, **kwargs)
        if is_dynamo_compiling() or not is_ours_on_top():
            return
        after = _known_rates(optimizer)
        if before != after and None not in after:
            _report(optimizer, {"call": "loaded", "before": before, "after": after}, sys._getframe(1))

    return loads


def _known_rates(optimizer: Optimizer) -> list[float | None]:
    """The rate of each group; None where reading it could make the program wait for a device."""
    rates = (group.get("lr") for group in getattr(optimizer, "param_groups", ()))
    return [rate if type(rate) in (int, float) else None for rate in rates]


def scheduler_stepped(update: Callable[..., None]) -> Callable[..., None]:
    """What stands for what ``LRScheduler.step`` ends with: a scheduler's first step, and whether it is an early one.

    Once for an optimizer it is noted that a scheduler goes on stepping while the optimizer does not.

    Not for ``step`` itself: it warns its caller, which is to remain the program.
    """

    @wraps(update)
    def updates(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        update(scheduler, *args, **kwargs)
        optimizer = scheduler.optimizer
        if scheduler._step_count == _FIRST and not is_dynamo_compiling() and is_ours_on_top():
            call = "first" if getattr(optimizer, "_opt_called", False) else "early"
            _report(optimizer, {"scheduler": type(scheduler).__name__, "call": call}, sys._getframe(1))
        if optimizer not in _noted_idle and _steps.get(optimizer) and _steps_alone(scheduler, optimizer):
            _noted_idle[optimizer] = False
            _report(optimizer, {"scheduler": type(scheduler).__name__, "call": "idle"}, sys._getframe(1))

    return updates


def _steps_alone(scheduler: Any, optimizer: Optimizer) -> bool:
    """Whether a scheduler has stepped several times by now since its optimizer's last step."""
    steps = _steps[optimizer]
    before, times = _idle.get(scheduler, (0, 0))
    times = times + 1 if before == steps else 0
    _idle[scheduler] = steps, times
    return times >= _IDLE and not is_dynamo_compiling() and is_ours_on_top()


def _report(optimizer: Optimizer, detail: dict[str, Any], frame: FrameType) -> None:
    note(
        "learning rate",
        lambda mode: mode.observer.observe_event(_LEARNING_RATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )
