"""When an optimizer steps with a learning rate of zero, and the schedulers that set its learning rate.

Of the steps, only those are noted at which a rate becomes zero or is zero no more, and the first.
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
_zero: WeakKeyDictionary[Optimizer, tuple[bool, ...]] = WeakKeyDictionary()
"""Which of an optimizer's groups had a rate of zero when it stepped last."""


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Look at the rates: a hook before every optimizer's step."""
    if is_dynamo_compiling():
        return
    rates = [group.get("lr") for group in optimizer.param_groups]
    zero = tuple(type(rate) in (int, float) and rate == 0 for rate in rates)  # (a tensor's value is not read)
    if _zero.get(optimizer) != zero and is_ours_on_top():
        _zero[optimizer] = zero
        _report(optimizer, {"zero": list(zero)}, sys._getframe(1))


def forget() -> None:
    """Note the rates of each optimizer anew: another recording begins."""
    _zero.clear()


def scheduler_made(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``LRScheduler.__init__`` while a recorder is at work."""

    @wraps(init)
    def makes(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        init(scheduler, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            _report(scheduler.optimizer, {"scheduler": type(scheduler).__name__, "call": "made"}, sys._getframe(1))

    return makes


def scheduler_stepped(update: Callable[..., None]) -> Callable[..., None]:
    """What stands for what ``LRScheduler.step`` ends with: a first step before any of the optimizer's is noted.

    Not for ``step`` itself: it warns its caller, which is to remain the program.
    """

    @wraps(update)
    def updates(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        update(scheduler, *args, **kwargs)
        optimizer = scheduler.optimizer
        is_early = scheduler._step_count == _FIRST and not getattr(optimizer, "_opt_called", False)
        if is_early and not is_dynamo_compiling() and is_ours_on_top():
            _report(optimizer, {"scheduler": type(scheduler).__name__, "call": "early"}, sys._getframe(1))

    return updates


def _report(optimizer: Optimizer, detail: dict[str, Any], frame: FrameType) -> None:
    note(
        "learning rate",
        lambda mode: mode.observer.observe_event(_LEARNING_RATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )
