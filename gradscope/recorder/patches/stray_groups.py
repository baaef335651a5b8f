"""Groups of an optimizer that the program keeps and writes rates into, though a loaded state has put others there.

``load_state_dict`` makes the group dicts anew. One that something else holds by then is looked at before each step:
who writes a rate into it believes that it is the optimizer's.
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
_NUMBERS = (int, float)
_Group = dict[str, Any]
_kept: WeakKeyDictionary[Optimizer, list[tuple[_Group, Any, list[Any]]]] = WeakKeyDictionary()
"""For each optimizer the groups before a load that others hold, and the rates after it: of the group, and its own.

A group has the parameters of the one in its place, which the optimizer keeps as long as this does.
"""


def _holders(groups: list[_Group]) -> list[int]:
    return [sys.getrefcount(groups[at]) for at in range(len(groups))]


_ALONE = _holders([{}])[0]
"""What is counted of a group that nobody holds but the list that is asked."""


def loading_reported(load_state_dict: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.load_state_dict``: groups that it takes out of use and that others hold are kept."""

    @wraps(load_state_dict)
    def loads(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        before = list(optimizer.param_groups)
        load_state_dict(optimizer, *args, **kwargs)
        if is_dynamo_compiling() or not is_ours_on_top():
            return
        now = optimizer.param_groups
        if any(one is other for one in before for other in now):
            return
        held = [group for group, count in zip(before, _holders(before), strict=True) if count > _ALONE]
        if held:
            rates = [group.get("lr") for group in now]
            _kept[optimizer] = [(group, group.get("lr"), rates) for group in held]
            _report(optimizer, {"call": "regrouped"}, sys._getframe(1))

    return loads


def before_step(optimizer: Optimizer, *_: Any) -> None:
    """Note that a rate was written into a group that is the optimizer's no more, while its own stayed as it was: a hook
    before every optimizer's step."""
    groups = _kept.get(optimizer) if _kept and not is_dynamo_compiling() else None
    if groups is None or not is_ours_on_top():
        return
    for group, before, rates in groups:
        rate, own = group.get("lr"), [one.get("lr") for one in optimizer.param_groups]
        if not _is_same(rate, before):
            del _kept[optimizer]
            if type(rate) in _NUMBERS and all(map(_is_same, own, rates)):
                _report(optimizer, {"call": "stray", "rate": rate, "own": own}, sys._getframe(1))
            return


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) in _NUMBERS and type(other) in _NUMBERS and bool(one == other))


def forget() -> None:
    """Keep nothing for the next recording."""
    _kept.clear()


def _report(optimizer: Optimizer, detail: dict[str, Any], frame: FrameType) -> None:
    note(
        "replaced groups",
        lambda mode: mode.observer.observe_event(_LEARNING_RATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )
