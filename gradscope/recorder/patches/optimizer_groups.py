"""Which parameters an optimizer was given, and with what settings: seen when a group is added to it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from itertools import count
from types import FrameType
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.compiler import is_dynamo_compiling
from torch.optim import Optimizer

from gradscope.recorder.calls.function_mode import RecorderMode
from gradscope.recorder.calls.modes_aside import is_ours_on_top
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.refused_calls import note_refusal
from gradscope.recorder.places.lines_of_callers import lines_of_callers
from gradscope.recording.rows import EventKind

_OPTIMIZER = int(EventKind.OPTIMIZER)
_BEFORE_GROUPS = ("optimizer got an empty parameter list", "params argument given to the optimizer")
"""What is refused before there is a group."""
_numbers: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
_filled: WeakKeyDictionary[Optimizer, dict[int, frozenset[str]]] = WeakKeyDictionary()
"""The settings that each optimizer put into the dictionary of a group (its id) itself: it was given without them."""
_next = count()


def number_of(optimizer: Optimizer) -> int:
    """The number by which events speak of an optimizer."""
    return _numbers.setdefault(optimizer, next(_next))


def is_torchs_own(optimizer: Optimizer) -> bool:
    """Whether its class is torch's: one of the program's may read what it likes."""
    return f"{type(optimizer).__module__}.".startswith("torch.optim.")  # (some say torch.optim, others name their file)


def reported(add_param_group: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``Optimizer.add_param_group`` while a recorder is at work."""

    @wraps(add_param_group)
    def adds(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if is_dynamo_compiling() or not is_ours_on_top():
            return add_param_group(optimizer, *args, **kwargs)
        frame, group = sys._getframe(1), args[0] if args else kwargs.get("param_group")
        given = frozenset(group) if type(group) is dict else frozenset[str]()
        try:
            result = add_param_group(optimizer, *args, **kwargs)
        except Exception as error:
            note_refusal(f"optim.{type(optimizer).__name__}", frame, _tensors_of(args[0] if args else None), error)
            raise
        note("add_param_group", lambda mode: _observe(mode, optimizer, frame, given))
        return result

    return adds


def making_reported(init: Callable[..., None]) -> Callable[..., None]:
    """What stands for ``Optimizer.__init__`` while a recorder is at work: that it was given nothing is noted."""

    @wraps(init)
    def makes(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
        if is_dynamo_compiling() or not is_ours_on_top():
            return init(optimizer, *args, **kwargs)
        try:
            return init(optimizer, *args, **kwargs)
        except Exception as error:
            if str(error).startswith(_BEFORE_GROUPS):  # else add_param_group has noted it
                note_refusal(f"optim.{type(optimizer).__name__}", sys._getframe(1), (), error)
            raise

    return makes


def _tensors_of(group: Any) -> list[Tensor]:
    """The tensors of a group as it is given; none of an iterator, which can be gone through once only."""
    given = group.get("params") if type(group) is dict else None
    listed = given if isinstance(given, list | tuple) else [given]
    return [one for one in listed if isinstance(one, Tensor)]


def _observe(mode: RecorderMode, optimizer: Optimizer, frame: FrameType, given: frozenset[str]) -> None:
    group = optimizer.param_groups[-1]
    _filled.setdefault(optimizer, {})[id(group)] = frozenset(group) - given
    tensors = [one for one in group["params"] if isinstance(one, Tensor)]
    called = lines_of_callers(mode.observer.sites, frame)
    detail = {
        "optimizer": type(optimizer).__name__,
        "settings": _settings(group),
        **({"called": called[0]} if called else {}),
        **_filled_by_another(optimizer, group),
        **_not_read(optimizer, group, given),
    }
    mode.observer.observe_event(_OPTIMIZER, frame, mode.thread, number_of(optimizer), detail, tensors)


def _filled_by_another(optimizer: Optimizer, group: dict[str, Any]) -> dict[str, Any]:
    """Where the group is the dictionary of another optimizer: which one, and what this one was made with in vain.

    An optimizer puts its settings only where there are none; those that the other had put there are kept.
    """
    for other in [one for one in list(_numbers) if one is not optimizer]:
        if not any(one is group for one in other.param_groups):
            continue
        names = sorted(_filled.get(other, {}).get(id(group), frozenset()) & optimizer.defaults.keys())
        made_with = {name: optimizer.defaults[name] for name in names if optimizer.defaults[name] != group[name]}
        numbers = {name: value for name, value in made_with.items() if type(value) in (int, float)}
        if numbers:
            return {"filled_by": number_of(other), "in_vain": numbers}
    return {}


def _not_read(optimizer: Optimizer, group: dict[str, Any], given: frozenset[str]) -> dict[str, Any]:
    """Numbers that the group was given under names that torch's optimizer has no setting of, and what else it was."""
    if not is_torchs_own(optimizer):
        return {}
    names = sorted(name for name in given - optimizer.defaults.keys() if type(group.get(name)) in (int, float, bool))
    if not names:
        return {}
    return {"not_read": {name: group[name] for name in names}, "given": sorted(given & optimizer.defaults.keys())}


def _settings(group: dict[str, Any]) -> dict[str, Any]:
    """The group's settings that are plain numbers, truth values or text: ``lr``, ``weight_decay``, ``momentum``."""
    return {
        name: value
        for name, value in group.items()
        if type(name) is str and (value is None or type(value) in (int, float, bool, str))
    }
