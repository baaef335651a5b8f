"""Which call of a function of torch's a frame is in: one for all that the call does, another for the next call.

Nothing that a frame is known by tells two calls apart: its id goes to another frame as soon as the call is over, weak
references to it do not exist, and a strong one would keep what its names hold. What a frame has as its trace function
goes with it, and Python asks it only where tracing is on, so that is where the mark of a call is.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from gradscope.recording.tables import NONE


class TorchCall:
    """One call, as the mark of its frame."""

    __slots__ = ("at", "op")

    def __init__(self) -> None:
        self.at = NONE
        """The instruction of the user's that made it; of a generator, that went on with it."""
        self.op = NONE
        """Its first op, or NONE."""

    def __call__(self, *_: Any) -> TorchCall:
        """As a trace function, where tracing was switched on meanwhile, it does nothing."""
        return self

    def begin(self, at: int, op: int) -> bool:
        """Note an op of the call, made for an instruction of the user's; returns whether it is the first."""
        is_first = self.op == NONE or self.at != at
        if is_first:
            self.at, self.op = at, op
        return is_first

    def withdraw(self, op: int) -> None:
        """An op was taken back."""
        if self.op == op:
            self.op = NONE


def call_in(frame: FrameType) -> TorchCall | None:
    """The call that a frame runs; None where tracing is on, whose trace functions are the program's."""
    mark = frame.f_trace
    if isinstance(mark, TorchCall):
        return mark
    if mark is not None or sys.gettrace() is not None:
        return None
    call = TorchCall()
    frame.f_trace = call
    return call
