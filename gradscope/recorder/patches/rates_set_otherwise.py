"""Learning rates that a scheduler sets in place of others: those of a state that was loaded, those written by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from types import FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, ref

from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, OneCycleLR

from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recording.rows import EventKind

_LEARNING_RATE = int(EventKind.LEARNING_RATE)

FIRST = 2
"""How often a scheduler has stepped after the program's first call: it steps once when it is made."""
SEVERAL = 2
"""Steps with one rate: a scheduler that steps after each of the optimizer's leaves a wrong one for the first only."""
_TWICE = 2
"""How often rates that are overwritten are noted: once may be a mistake, and again a schedule of both."""
_BY_COUNT = (LambdaLR, OneCycleLR, CyclicLR)
"""Schedulers whose rates follow from how often they have stepped alone: others go on from those that they find."""


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

_overwritten: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
"""How often it was noted of an optimizer that a scheduler set other rates than were written by hand."""


def forget() -> None:
    """Another recording begins."""
    for known in (_restored, _set_back, _set_last, _overwritten):
        known.clear()


def known_rates(optimizer: Optimizer) -> list[float | None]:
    """The rate of each group; None where reading it could make the program wait for a device."""
    rates: list[float | None] = []
    for group in getattr(optimizer, "param_groups", ()):
        rate = group.get("lr")
        rates.append(rate if type(rate) in (int, float) else None)
    return rates


def _first_rates(optimizer: Optimizer) -> list[Any]:
    """The rate of each group that a schedule is to begin with."""
    return [group.get("initial_lr", group.get("lr")) for group in optimizer.param_groups]


def note_rates(optimizer: Optimizer, detail: dict[str, Any], frame: FrameType) -> None:
    note(
        "learning rate",
        lambda mode: mode.observer.observe_event(_LEARNING_RATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )


def loading_reported(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.load_state_dict`` while a recorder is at work: rates that it changes are noted."""

    @wraps(load_state_dict)
    def loads(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        before, first = known_rates(optimizer), _first_rates(optimizer)
        load_state_dict(optimizer, *args, **kwargs)
        _set_last.pop(optimizer, None)
        if is_dynamo_compiling() or not is_ours_on_top():
            return
        after = known_rates(optimizer)
        if before != after and None not in after:
            note_rates(optimizer, {"call": "loaded", "before": before, "after": after}, sys._getframe(1))
        _restored.pop(optimizer, None)
        is_scheduled = all("initial_lr" in group for group in optimizer.param_groups)
        if is_scheduled and optimizer.state and None not in after and first == _first_rates(optimizer):
            _restored[optimizer] = after
            note_rates(optimizer, {"call": "restored"}, sys._getframe(1))

    return loads


def note_made(scheduler: Any, rates: list[float | None]) -> None:
    """Know a scheduler by which the optimizer, whose state was loaded, has other rates."""
    restored = _restored.get(scheduler.optimizer)
    if restored is not None and restored != rates and None not in rates:
        _set_back[scheduler.optimizer] = _RatesSetBack(restored, rates, ref(scheduler), scheduler.last_epoch)


def note_first_step(scheduler: Any, frame: FrameType) -> None:
    """Note that the first step of a scheduler, which knows of none before, set other rates than were loaded."""
    restored = _restored.pop(scheduler.optimizer, None)
    rates = known_rates(scheduler.optimizer)
    if restored is not None and restored != rates and type(scheduler) in _BY_COUNT:
        detail = {"scheduler": type(scheduler).__name__, "call": "begun", "restored": restored, "rates": rates}
        note_rates(scheduler.optimizer, detail, frame)


def note_steps_beyond(optimizer: Optimizer) -> None:
    """A scheduler sets its rates by now: those of the state that was loaded are over."""
    _restored.pop(optimizer, None)


def note_several_steps(optimizer: Optimizer, frame: FrameType) -> None:
    """Note that an optimizer goes on with the rates that a scheduler set when it was made, not with those loaded before
    it, although the scheduler has been given a state since: one that is loaded sets no rate."""
    known = _set_back.pop(optimizer, None)
    scheduler = None if known is None else known.scheduler()
    if known is None or scheduler is None:
        return
    if scheduler.last_epoch > known.epochs and known_rates(optimizer) == known.rates:
        detail = {"scheduler": type(scheduler).__name__, "call": "set back"}
        note_rates(optimizer, {**detail, "restored": known.restored, "rates": known.rates}, frame)


def written_since(scheduler: Any) -> dict[int, float]:
    """By group the rates that are others than a scheduler set last, where this one sets them whatever they are."""
    optimizer = scheduler.optimizer
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


def note_overwritten(scheduler: Any, written: dict[int, float], steps: int, moves: int, frame: FrameType) -> None:
    """Note, twice for an optimizer, that a step of a scheduler set other rates than had been written by hand.

    So does a second LambdaLR when it is made, as it goes by the rates that the first one began with.
    """
    optimizer = scheduler.optimizer
    last, rates, count = _set_last[optimizer], known_rates(optimizer), _overwritten.get(optimizer, 0)
    lost = [number for number, rate in written.items() if rates[number] != rate]
    is_made = scheduler._step_count < FIRST
    if not lost or count >= _TWICE or (is_made and type(scheduler) is not LambdaLR):
        return
    _overwritten[optimizer] = count + 1
    detail = {
        "groups": lost,
        "written": [written[number] for number in lost],
        "rates": [rates[number] for number in lost],
        "base": [scheduler.base_lrs[number] for number in lost],
        "steps": steps - last.steps,
        "moves": moves - last.moves,
        "made": is_made,
    }
    note_rates(optimizer, {"scheduler": type(scheduler).__name__, "call": "overwritten", **detail}, frame)


def note_set(scheduler: Any, steps: int, moves: int) -> None:
    """Know the rates that a scheduler has set, and of its optimizer the steps, and those that found other rates."""
    if type(scheduler) in _BY_COUNT:
        _set_last[scheduler.optimizer] = _RatesSet(scheduler._last_lr, steps, moves)
