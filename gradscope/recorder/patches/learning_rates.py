"""When an optimizer steps with a learning rate of zero or next to nothing, and the schedulers that set its rate.

Of the steps, only those are noted at which a rate becomes zero (or so small) or is so no more, and the first; and that
a scheduler goes on stepping without its optimizer, or not any more. So is a state that changes the rates when it is
loaded, and a scheduler that begins with others right after that, or sets others than were written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    StepLR,
)

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import is_torchs_own, number_of
from gradscope.recording.rows import EventKind

_LEARNING_RATE = int(EventKind.LEARNING_RATE)
UPDATES = ("_update_lr", "step")
"""The methods by which ``LRScheduler`` sets the rates: the first that this torch has is what ``step`` ends with. Where
there is none, ``step`` puts its warnings down to torch's own file, whoever calls it."""

_SEVERAL = 2
"""Steps with one rate: a scheduler that steps after each of the optimizer's leaves a wrong one for the first only."""
_FIRST = 2
"""How often a scheduler has stepped after the program's first call: it steps once when it is made."""
_TINY = 1e-6
"""The part of its first rate that an optimizer's rate has to fall to for its steps to be next to nothing."""
_IDLE = 2
"""Steps of a scheduler in a row between which its optimizer made none, from which on that is noted."""
_PERIODS = 4
"""Descents and ascents of a cosine after which it is taken to have gone past its end."""
_CHANGES = 4
"""Times that the rate of one group has changed, from which on it is noted that another one's has not."""
_TWICE = 2
"""How often rates that are overwritten are noted: once may be a mistake, and again a schedule of both."""
_BY_COUNT = (LambdaLR, OneCycleLR, CyclicLR)
"""Schedulers whose rates follow from how often they have stepped alone: others go on from those that they find."""
_idle: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()
"""For a scheduler: steps of its optimizer when it stepped last, and how often it has stepped since without another."""


class _RatesSetBack(NamedTuple):
    """A scheduler that was made after its optimizer's state was loaded, and set other rates by that."""

    restored: list[float | None]
    rates: list[float | None]
    scheduler: Callable[[], Any]
    """A weak reference."""
    epochs: int
    """How far the scheduler had come."""


_restored: WeakKeyDictionary[Optimizer, list[float | None]] = WeakKeyDictionary()
"""For an optimizer: the rates of a state that was loaded, which a scheduler had set, until another one sets them."""

_set_back: WeakKeyDictionary[Optimizer, _RatesSetBack] = WeakKeyDictionary()
"""The optimizers to which that happened before their first steps."""


class _RatesSet(NamedTuple):
    """What the last step of a scheduler set."""

    rates: list[Any]
    """Of each group, a list that nobody else changes."""
    steps: int
    """How many steps its optimizer had made then."""
    moves: int
    """How often these had found other rates than the one before."""


_set_last: WeakKeyDictionary[Optimizer, _RatesSet] = WeakKeyDictionary()
"""For an optimizer: the rates that a scheduler set last, where no state was loaded since."""


class _Stepping:
    """What is known of an optimizer that steps."""

    __slots__ = (
        *("attributes", "beside", "changes", "first", "has_gone_on", "is_uneven", "moves", "overwritten", "rates"),
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
        self.overwritten = 0
        """How often it was noted that a scheduler set other rates than were written by hand."""


_known: WeakKeyDictionary[Optimizer, _Stepping] = WeakKeyDictionary()


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Look at the rates: a hook before every optimizer's step."""
    if is_dynamo_compiling():
        return
    known = _known.get(optimizer)
    if known is None:
        known = _known[optimizer] = _Stepping()
    known.steps += 1
    if known.steps == _SEVERAL and optimizer in _set_back:
        _report_set_back(optimizer, sys._getframe(1))
    if known.has_gone_on is False:
        known.has_gone_on = True
        _report(optimizer, {"call": "busy"}, sys._getframe(1))
    if len(vars(optimizer)) != known.attributes or known.beside is not None:
        _look_beside(optimizer, known, sys._getframe(1))
    rates = _known_rates(optimizer)
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
        _report(optimizer, {"zero": list(zero), **small}, frame)
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
            _report(optimizer, {"call": "beside", "name": name, "value": value, "kept": kept}, frame)
        elif before and before != kept:
            known.beside[name] = []
            _report(optimizer, {"call": "follows", "name": name}, frame)


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
        _report(optimizer, {"call": "uneven", "stays": stays}, frame)
    elif known.is_uneven and not stays:
        known.is_uneven = False
        _report(optimizer, {"call": "even"}, frame)


def forget() -> None:
    """Note the rates of each optimizer anew: another recording begins."""
    _known.clear()
    _idle.clear()
    _restored.clear()
    _set_back.clear()
    _set_last.clear()


def scheduler_made(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``LRScheduler.__init__`` while a recorder is at work."""

    @wraps(init)
    def makes(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        init(scheduler, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            rates = _known_rates(scheduler.optimizer)
            is_one = len(rates) > 1 and len(set(rates)) == 1
            detail = {"scheduler": type(scheduler).__name__, "call": "made", **({"one": rates[0]} if is_one else {})}
            if counted := _counted_by(scheduler):
                detail["of"] = counted
            _report(scheduler.optimizer, detail, sys._getframe(1))
            restored = _restored.get(scheduler.optimizer)
            if restored is not None and restored != rates and None not in rates:
                _set_back[scheduler.optimizer] = _RatesSetBack(restored, rates, ref(scheduler), scheduler.last_epoch)

    return makes


def loading_reported(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.load_state_dict`` while a recorder is at work: rates that it changes are noted."""

    @wraps(load_state_dict)
    def loads(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        before, first = _known_rates(optimizer), _first_rates(optimizer)
        load_state_dict(optimizer, *args, **kwargs)
        _set_last.pop(optimizer, None)
        if is_dynamo_compiling() or not is_ours_on_top():
            return
        after = _known_rates(optimizer)
        if before != after and None not in after:
            _report(optimizer, {"call": "loaded", "before": before, "after": after}, sys._getframe(1))
        _restored.pop(optimizer, None)
        is_scheduled = all("initial_lr" in group for group in optimizer.param_groups)
        if is_scheduled and optimizer.state and None not in after and first == _first_rates(optimizer):
            _restored[optimizer] = after
            _report(optimizer, {"call": "restored"}, sys._getframe(1))

    return loads


def _report_begun(scheduler: Any, frame: FrameType) -> None:
    """Note that the first step of a scheduler, which knows of none before, set other rates than were loaded."""
    restored = _restored.pop(scheduler.optimizer, None)
    rates = _known_rates(scheduler.optimizer)
    if restored is not None and restored != rates and type(scheduler) in _BY_COUNT:
        detail = {"scheduler": type(scheduler).__name__, "call": "begun", "restored": restored, "rates": rates}
        _report(scheduler.optimizer, detail, frame)


def _report_set_back(optimizer: Optimizer, frame: FrameType) -> None:
    """Note that an optimizer goes on with the rates that a scheduler set when it was made, not with those loaded before
    it, although the scheduler has been given a state since: one that is loaded sets no rate."""
    known = _set_back.pop(optimizer)
    scheduler = known.scheduler()
    if scheduler is not None and scheduler.last_epoch > known.epochs and _known_rates(optimizer) == known.rates:
        detail = {"scheduler": type(scheduler).__name__, "call": "set back"}
        _report(optimizer, {**detail, "restored": known.restored, "rates": known.rates}, frame)


def _first_rates(optimizer: Optimizer) -> list[Any]:
    """The rate of each group that a schedule is to begin with."""
    return [group.get("initial_lr", group.get("lr")) for group in optimizer.param_groups]


def _known_rates(optimizer: Optimizer) -> list[float | None]:
    """The rate of each group; None where reading it could make the program wait for a device."""
    rates: list[float | None] = []
    for group in getattr(optimizer, "param_groups", ()):
        rate = group.get("lr")
        rates.append(rate if type(rate) in (int, float) else None)
    return rates


def scheduler_stepped(update: Callable[..., None]) -> Callable[..., None]:
    """What stands for what ``LRScheduler.step`` ends with: a scheduler's first step, and whether it is an early one.

    Once for an optimizer it is noted that a scheduler goes on stepping while the optimizer does not.

    Not for ``step`` itself where it warns its caller, which is to remain the program.
    """

    @wraps(update)
    def updates(scheduler: Any, *args: Any, **kwargs: Any) -> None:
        optimizer = scheduler.optimizer
        written = _written_since(optimizer, scheduler)
        update(scheduler, *args, **kwargs)
        if written and not is_dynamo_compiling() and is_ours_on_top():
            _report_overwritten(scheduler, written, sys._getframe(1))
        if scheduler._step_count == _FIRST and not is_dynamo_compiling() and is_ours_on_top():
            call = "first" if getattr(optimizer, "_opt_called", False) else "early"
            _report(optimizer, {"scheduler": type(scheduler).__name__, "call": call}, sys._getframe(1))
            _report_begun(scheduler, sys._getframe(1))
        if scheduler._step_count >= _FIRST:
            _restored.pop(optimizer, None)
        end = _end_of(scheduler)
        if end and scheduler.last_epoch == end and not is_dynamo_compiling() and is_ours_on_top():
            detail = {"scheduler": type(scheduler).__name__, "call": "over", "of": _length_of(scheduler)}
            first = _known[optimizer].first if optimizer in _known else None
            _report(optimizer, {**detail, "first": first, "rates": _known_rates(optimizer)}, sys._getframe(1))
        known = _known.get(optimizer)
        if type(scheduler) in _BY_COUNT:
            steps, moves = (known.steps, known.moves) if known is not None else (0, 0)
            _set_last[optimizer] = _RatesSet(scheduler._last_lr, steps, moves)
        if known is not None and known.has_gone_on is None and _steps_alone(scheduler, known.steps):
            known.has_gone_on = False
            _report(optimizer, {"scheduler": type(scheduler).__name__, "call": "idle"}, sys._getframe(1))

    return updates


def _written_since(optimizer: Optimizer, scheduler: Any) -> dict[int, float]:
    """By group the rates that are others than a scheduler set last, where this one sets them whatever they are."""
    last = _set_last.get(optimizer)
    if last is None:
        return {}
    if type(scheduler) not in _BY_COUNT or len(last.rates) != len(optimizer.param_groups):
        del _set_last[optimizer]  # (what it sets is not looked at)
        return {}
    pairs = enumerate(zip(optimizer.param_groups, last.rates, strict=True))
    return {
        number: group["lr"]
        for number, (group, rate) in pairs
        if group["lr"] is not rate and {type(group["lr"]), type(rate)} <= {int, float} and group["lr"] != rate
    }


def _report_overwritten(scheduler: Any, written: dict[int, float], frame: FrameType) -> None:
    """Note, twice for an optimizer, that a step of a scheduler set other rates than had been written by hand.

    So does a second LambdaLR when it is made, as it goes by the rates that the first one began with.
    """
    optimizer = scheduler.optimizer
    known, last, rates = _known.get(optimizer), _set_last[optimizer], _known_rates(optimizer)
    lost = [number for number, rate in written.items() if rates[number] != rate]
    is_made = scheduler._step_count < _FIRST
    if known is None or not lost or known.overwritten >= _TWICE or (is_made and type(scheduler) is not LambdaLR):
        return
    known.overwritten += 1
    detail = {
        "groups": lost,
        "written": [written[number] for number in lost],
        "rates": [rates[number] for number in lost],
        "base": [scheduler.base_lrs[number] for number in lost],
        "steps": known.steps - last.steps,
        "moves": known.moves - last.moves,
        "made": is_made,
    }
    _report(optimizer, {"scheduler": type(scheduler).__name__, "call": "overwritten", **detail}, frame)


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


def _report(optimizer: Optimizer, detail: dict[str, Any], frame: FrameType) -> None:
    note(
        "learning rate",
        lambda mode: mode.observer.observe_event(_LEARNING_RATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )
