"""When an optimizer steps with a learning rate of zero or next to nothing, and the schedulers that set its rate.

Of the steps, only those are noted at which a rate becomes zero (or so small) or is so no more, and the first; and that
a scheduler goes on stepping without its optimizer, or not any more.
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
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches import rates_set_otherwise
from gradscope.recorder.patches.optimizer_groups import is_torchs_own
from gradscope.recorder.patches.rates_set_otherwise import (
    FIRST,
    SEVERAL,
    known_rates,
    note_first_step,
    note_made,
    note_overwritten,
    note_rates,
    note_set,
    note_several_steps,
    note_steps_beyond,
    written_since,
)

UPDATES = ("_update_lr", "step")
"""The methods by which ``LRScheduler`` sets the rates: the first that this torch has is what ``step`` ends with. Where
there is none, ``step`` puts its warnings down to torch's own file, whoever calls it."""

_TINY = 1e-6
"""The part of its first rate that an optimizer's rate has to fall to for its steps to be next to nothing."""
_IDLE = 2
"""Steps of a scheduler in a row between which its optimizer made none, from which on that is noted."""
_PERIODS = 4
"""Descents and ascents of a cosine after which it is taken to have gone past its end."""
_CHANGES = 4
"""Times that the rate of one group has changed, from which on it is noted that another one's has not."""
_idle: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()
"""For a scheduler: steps of its optimizer when it stepped last, and how often it has stepped since without another."""


class _Stepping:
    """What is known of an optimizer that steps."""

    __slots__ = (
        *("attributes", "beside", "changes", "first", "has_gone_on", "is_uneven", "moves", "rates"),
        *("steps", "zero"),
    )

    def __init__(self) -> None:
        self.steps = 0
        self.attributes = 0
        """How many attributes it had when they were looked at last."""
        self.beside: dict[str, list[Any]] | None = None
        """Attributes named like settings that the groups have: what the groups had when they were first seen."""
        self.rates: list[float | None] | None = None
        """Of its groups, when they were looked at last."""
        self.zero: tuple[tuple[bool, ...], bool] | None = None
        """Which groups had a rate of zero then, and whether all were next to nothing."""
        self.changes: list[int] = []
        """How often the rate of each group was another than at the step before."""
        self.is_uneven: bool | None = None
        """Where it was noted that only some of the groups change: whether that is so still."""
        self.first: float | None = None
        """The largest rate with which it made its first step."""
        self.has_gone_on: bool | None = None
        """Where it was noted that a scheduler steps without it: whether it has stepped since."""
        self.moves = 0
        """Steps that found other rates than the one before."""


_known: WeakKeyDictionary[Optimizer, _Stepping] = WeakKeyDictionary()


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Look at the rates: a hook before every optimizer's step."""
    if is_dynamo_compiling():
        return
    known = _known.get(optimizer)
    if known is None:
        known = _known[optimizer] = _Stepping()
    known.steps += 1
    if known.steps == SEVERAL:
        note_several_steps(optimizer, sys._getframe(1))
    if known.has_gone_on is False:
        known.has_gone_on = True
        note_rates(optimizer, {"call": "busy"}, sys._getframe(1))
    if len(vars(optimizer)) != known.attributes or known.beside is not None:
        _look_beside(optimizer, known, sys._getframe(1))
    rates = known_rates(optimizer)
    if rates != known.rates:
        known.moves += 1
        if len(rates) > 1 and known.rates is not None and len(known.rates) == len(rates):
            _count_changes(optimizer, known, rates, sys._getframe(1))
        _look_at(optimizer, known, rates, sys._getframe(1))


def _look_at(optimizer: Optimizer, known: _Stepping, rates: list[float | None], frame: FrameType) -> None:
    """Note which rates are zero, or next to nothing, where that is another matter than before."""
    zero = tuple(rate == 0 for rate in rates)
    largest = max((rate for rate in rates if rate is not None), default=0)
    if known.first is None:
        known.first = largest
    is_tiny = 0 < largest <= _TINY * known.first and None not in rates
    if known.zero != (zero, is_tiny):
        if not is_ours_on_top():
            return
        known.zero = (zero, is_tiny)
        small = {"tiny": largest, "first": known.first} if is_tiny else {}
        note_rates(optimizer, {"zero": list(zero), **small}, frame)
    known.rates = rates


def _look_beside(optimizer: Optimizer, known: _Stepping, frame: FrameType) -> None:
    """Note that an attribute is named like a setting of the groups and is none of theirs, or that the groups change."""
    known.attributes = len(vars(optimizer))
    if not is_torchs_own(optimizer) or not is_ours_on_top():
        return
    for name in optimizer.defaults.keys() & vars(optimizer).keys():
        value, kept = vars(optimizer)[name], [group.get(name) for group in optimizer.param_groups]
        if any(type(one) not in (int, float) for one in (value, *kept)):
            continue
        known.beside = {} if known.beside is None else known.beside
        before = known.beside.get(name)
        if before is None and value not in kept:
            known.beside[name] = kept
            note_rates(optimizer, {"call": "beside", "name": name, "value": value, "kept": kept}, frame)
        elif before and before != kept:
            known.beside[name] = []
            note_rates(optimizer, {"call": "follows", "name": name}, frame)


def _count_changes(optimizer: Optimizer, known: _Stepping, rates: list[float | None], frame: FrameType) -> None:
    """Note that the rates of some groups change again and again while those of others stay, or that they do not."""
    known.changes += [0] * (len(rates) - len(known.changes))
    for group, (before, now) in enumerate(zip(known.rates or (), rates, strict=True)):
        known.changes[group] += before != now
    if known.is_uneven is False or None in rates:
        return
    stays = [group for group, changes in enumerate(known.changes) if not changes]
    if known.is_uneven is None and stays and max(known.changes) >= _CHANGES and is_ours_on_top():
        known.is_uneven = True
        note_rates(optimizer, {"call": "uneven", "stays": stays}, frame)
    elif known.is_uneven and not stays:
        known.is_uneven = False
        note_rates(optimizer, {"call": "even"}, frame)


def forget() -> None:
    """Note the rates of each optimizer anew: another recording begins."""
    _known.clear()
    _idle.clear()
    rates_set_otherwise.forget()


def scheduler_made(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``LRScheduler.__init__`` while a recorder is at work."""

    @wraps(init)
    def makes(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        init(scheduler, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            rates = known_rates(scheduler.optimizer)
            is_one = len(rates) > 1 and len(set(rates)) == 1
            detail = {"scheduler": type(scheduler).__name__, "call": "made", **({"one": rates[0]} if is_one else {})}
            if counted := _counted_by(scheduler):
                detail["of"] = counted
            note_rates(scheduler.optimizer, detail, sys._getframe(1))
            note_made(scheduler, rates)

    return makes


def scheduler_stepped(update: Callable[..., None]) -> Callable[..., None]:
    """What stands for what ``LRScheduler.step`` ends with: a scheduler's first step, and whether it is an early one.

    Once for an optimizer it is noted that a scheduler goes on stepping while the optimizer does not.

    Not for ``step`` itself where it warns its caller, which is to remain the program.
    """

    @wraps(update)
    def updates(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        optimizer = scheduler.optimizer
        written = written_since(scheduler)
        update(scheduler, *args, **kwargs)
        known = _known.get(optimizer)
        if written and known is not None and not is_dynamo_compiling() and is_ours_on_top():
            note_overwritten(scheduler, written, known.steps, known.moves, sys._getframe(1))
        if scheduler._step_count == FIRST and not is_dynamo_compiling() and is_ours_on_top():
            call = "first" if getattr(optimizer, "_opt_called", False) else "early"
            note_rates(optimizer, {"scheduler": type(scheduler).__name__, "call": call}, sys._getframe(1))
            note_first_step(scheduler, sys._getframe(1))
        if scheduler._step_count >= FIRST:
            note_steps_beyond(optimizer)
        end = _end_of(scheduler)
        if end and scheduler.last_epoch == end and not is_dynamo_compiling() and is_ours_on_top():
            detail = {"scheduler": type(scheduler).__name__, "call": "over", "of": _length_of(scheduler)}
            first = _known[optimizer].first if optimizer in _known else None
            note_rates(optimizer, {**detail, "first": first, "rates": known_rates(optimizer)}, sys._getframe(1))
        note_set(scheduler, known.steps if known is not None else 0, known.moves if known is not None else 0)
        if known is not None and known.has_gone_on is None and _steps_alone(scheduler, known.steps):
            known.has_gone_on = False
            note_rates(optimizer, {"scheduler": type(scheduler).__name__, "call": "idle"}, sys._getframe(1))

    return updates


def _length_of(scheduler: Any) -> int:
    """The number of steps that it was made for: to the last milestone, or to the end of the first descent; else 0."""
    if type(scheduler) is MultiStepLR:
        return int(max(scheduler.milestones, default=0))
    if type(scheduler) is CosineAnnealingLR and type(scheduler.T_max) is int:
        return int(scheduler.T_max)
    return 0


def _counted_by(scheduler: Any) -> int:
    """The number of steps after which it does what it is made to do, to the last or the next time; 0: not known."""
    name = {StepLR: "step_size", PolynomialLR: "total_iters", LinearLR: "total_iters"}.get(type(scheduler))
    number = getattr(scheduler, name, 0) if name is not None else _length_of(scheduler)
    return number if type(number) is int else 0


def _end_of(scheduler: Any) -> int:
    """The step at which it is noted that it is over: a cosine goes up again, maybe on purpose, and not many times."""
    return _length_of(scheduler) * (_PERIODS if type(scheduler) is CosineAnnealingLR else 1)


def _steps_alone(scheduler: Any, steps: int) -> bool:
    """Whether a scheduler has stepped several times by now since its optimizer's last step, the number of which is
    given."""
    before, times = _idle.get(scheduler, (0, 0))
    times = times + 1 if before == steps else 0
    _idle[scheduler] = steps, times
    return times >= _IDLE and not is_dynamo_compiling() and is_ours_on_top()
