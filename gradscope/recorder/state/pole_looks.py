"""What nodes keep whose derivative is infinite at a value, looked at as they are made: a root of 0, a logarithm of 0.

Backward passes are looked at ever more rarely as a run goes on; a batch that comes late may be the only one with such a
value, and the graph is gone when its weights are found to be NaN. On the CPU alone, where nothing waits for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import DisableTorchFunctionSubclass

from gradscope.recorder.state.value_ranges import numbers_of
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise, without_tangents
from gradscope.recorder.torch_internals.singular_nodes import kind_of
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_POLE = int(EventKind.POLE)

NOTED = 32
"""Calls that are noted of a recording: where such values are usual they are no news."""

_ELEMENTS = 1 << 16
"""Of the largest tensor that is looked at."""


def _at_zero(values: Tensor) -> float | None:
    return 0.0 if values.min().item() == 0 else None


def _at_one(values: Tensor) -> float | None:
    smallest, largest = (value.item() for value in torch.aminmax(values))
    return 1.0 if largest == 1 else -1.0 if smallest == -1 else None


_POLES: dict[str, tuple[str, Callable[[Tensor], float | None]]] = {
    "Sqrt": ("_saved_result", _at_zero),
    "Pow": ("_saved_self", _at_zero),
    "Log": ("_saved_self", _at_zero),
    "Acos": ("_saved_self", _at_one),
    "Asin": ("_saved_self", _at_one),
}
"""By the names of nodes without ``Backward0``: what is looked at, and the value in it at which the derivative ends.
That of a standard deviation of 0 torch gives as 0."""


def has_pole(kind: type) -> bool:
    """Whether nodes of a type are looked at."""
    return kind_of(kind.__name__) in _POLES


class PoleLooks:
    """Looks at nodes as they are made, until enough was found.

    Args:
        tape: Where rows go.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._left = NOTED

    def look(self, node: Any, op: int, thread: int) -> None:
        """Look at what a node of such a type keeps, which can be read without a hook of the program's."""
        if not self._left or dispatch_modes() or is_observed_otherwise():
            return
        attribute, ends_at = _POLES[kind_of(type(node).__name__)]
        if attribute == "_saved_self" and not _is_root(node):
            return
        with torch.no_grad(), without_tangents(False), DisableTorchFunctionSubclass():
            values = numbers_of(getattr(node, attribute))
            if values is None or not values.is_cpu or values.is_complex() or not 0 < values.numel() <= _ELEMENTS:
                return
            at = ends_at(values)
        if at is not None:
            self._left -= 1
            self._tape.add_event(_POLE, NONE, thread, op, json.dumps({"at": at}), [])


def _is_root(node: Any) -> bool:
    """Whether the power of a node, if it is one, is between 0 and 1: the derivative of others is finite at 0."""
    power = getattr(node, "_saved_exponent", 0.5)
    return type(power) in (int, float) and 0 < power < 1
