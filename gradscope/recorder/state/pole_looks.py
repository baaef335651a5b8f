"""What nodes keep whose derivative is infinite at a value, looked at as they are made: a root of 0, a logarithm of 0.

Backward passes are looked at ever more rarely as a run goes on; a batch that comes late may be the only one with such a
value, and the graph is gone when its weights are found to be NaN. On the CPU alone, where nothing waits for it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise, is_wrapped
from gradscope.recorder.torch_internals.singular_nodes import kind_of
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind

_POLE = int(EventKind.POLE)

NOTED = 32
"""Calls that are noted of a recording: where such values are usual they are no news."""

_ELEMENTS = 1 << 16
"""Of the largest tensor that is looked at."""

_DTYPES = frozenset((torch.float16, torch.bfloat16, torch.float32, torch.float64))


class Pole(NamedTuple):
    """Where the derivative of nodes of a type ends."""

    attribute: str
    """What they keep that is looked at."""
    at: float
    """The value; its negative, too, where it is not zero."""
    is_of_power: bool = False
    """Only if the power, which they keep, is between 0 and 1: the derivative of others is finite there."""


_POLES = {
    "Sqrt": Pole("_saved_result", 0.0),
    "Pow": Pole("_saved_self", 0.0, is_of_power=True),
    "Log": Pole("_saved_self", 0.0),
    "Acos": Pole("_saved_self", 1.0),
    "Asin": Pole("_saved_self", 1.0),
}
"""By the names of nodes without ``Backward0``. (The derivative of a standard deviation of 0 torch gives as 0.)"""


def pole_of(kind: type) -> Pole | None:
    """Where the derivative of nodes of a type ends; None for those that are not looked at."""
    return _POLES.get(kind_of(kind.__name__))


class PoleLooks:
    """Looks at nodes as they are made, until enough was found.

    Args:
        tape: Where rows go.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._left = NOTED

    def look(self, node: Any, pole: Pole, op: int, thread: int) -> None:
        """Look at what a node of such a type keeps, which can be read without a hook of the program's."""
        if pole.is_of_power:
            power = node._saved_exponent
            if type(power) not in (int, float) or not 0 < power < 1:
                return
        if not self._left or dispatch_modes() or is_observed_otherwise():
            return
        values = getattr(node, pole.attribute)
        if type(values) not in PLAIN or values.dtype not in _DTYPES or values.layout is not torch.strided:
            return
        if not values.is_cpu or not 0 < values.numel() <= _ELEMENTS or is_wrapped(values):
            return
        at = _met(values.detach(), pole.at)
        if at is not None:
            self._left -= 1
            self._tape.add_event(_POLE, NONE, thread, op, json.dumps({"at": at}), [])


def _met(values: Tensor, at: float) -> float | None:
    if not at:  # (the smallest: there is none below without a NaN)
        return at if values.min().item() == at else None
    smallest, largest = (value.item() for value in torch.aminmax(values))
    return at if largest == at else -at if smallest == -at else None
