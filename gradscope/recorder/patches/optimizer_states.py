"""Where the program takes an optimizer's state, and where it loads one that is still an optimizer's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
from gradscope.recorder.patches import state_order
from gradscope.recorder.patches.noting import note
from gradscope.recorder.patches.optimizer_groups import number_of
from gradscope.recording.rows import EventKind

_STATE = int(EventKind.OPTIMIZER_STATE)
_next = count()
_taken: WeakKeyDictionary[Optimizer, dict[int, int]] = WeakKeyDictionary()
"""For each optimizer that gave or loaded a state, the number of the call that gave each, by the state's identity.

One that is gone may have left its identity to another: which call gave a state that is still there is the last one.
"""


def taking_reported(state_dict: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``Optimizer.state_dict`` while a recorder is at work."""

    @wraps(state_dict)
    def takes(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        state = state_dict(optimizer, *args, **kwargs)
        if is_dynamo_compiling() or not is_ours_on_top() or not optimizer.state:
            return state
        note("optimizer state", lambda _: state_order.take(optimizer, state))
        number = _taken.setdefault(optimizer, {})[id(state)] = next(_next)
        _report(optimizer, {"call": "taken", "number": number})
        return state

    return takes


def loading_reported(load_state_dict: Callable[..., Any]) -> Callable[..., Any]:
    """What stands for ``Optimizer.load_state_dict`` while a recorder is at work."""

    @wraps(load_state_dict)
    def loads(optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if not is_dynamo_compiling() and is_ours_on_top():
            state = args[0] if args else kwargs.get("state_dict")
            number = _taken.get(optimizer, {}).get(id(state))
            if number is not None and (own := _shared(optimizer, state)):
                _report(optimizer, {"call": "loaded", "number": number, "own": own})
            frame = sys._getframe(1)
            note("optimizer state", lambda mode: _look_at_order(mode, optimizer, state, frame))
        load_state_dict(optimizer, *args, **kwargs)
        if not is_dynamo_compiling() and is_ours_on_top():
            for other in list(_taken):
                if other is not optimizer and (shared := _shared(other, {"state": optimizer.state})):
                    _report(optimizer, {"call": "loaded", "from": number_of(other), "shared": shared})
            _taken.setdefault(optimizer, {})

    return loads


def _look_at_order(mode: RecorderMode, optimizer: Optimizer, state: Any, frame: FrameType) -> None:
    mixed = state_order.mixed_up(optimizer, state)
    if mixed:
        detail = {"call": "loaded", "mixed": len(mixed)}
        mode.observer.observe_event(_STATE, frame, mode.thread, number_of(optimizer), detail, mixed)


def _shared(optimizer: Optimizer, state: Any) -> int:
    """How many tensors of a state, of more than one element, are those that the optimizer has now."""
    own = {id(tensor) for tensor in _tensors(optimizer.state)}
    given = state.get("state") if isinstance(state, dict) else None
    return sum(id(tensor) in own and tensor.numel() > 1 for tensor in _tensors(given))


def _tensors(state: Any) -> Iterator[Tensor]:
    for one in state.values() if isinstance(state, dict) else ():
        if isinstance(one, dict):
            yield from (value for value in one.values() if isinstance(value, Tensor))


def _report(optimizer: Optimizer, detail: dict[str, Any]) -> None:
    frame = sys._getframe(2)
    note(
        "optimizer state",
        lambda mode: mode.observer.observe_event(_STATE, frame, mode.thread, number_of(optimizer), detail, ()),
    )
