"""What is told of a run once as many ops were recorded as were asked for (``--max-ops``): numbers, and what went wrong.

From then on no tensor is entered and no state is asked for, so that neither memory nor time grows with the run. Calls
are counted as the ops that they would have been; a call that raises is still an op of its own, as far as what it was
given was known; of backward passes it is counted how many began from a loss that is not finite, and where first; and
what the process holds of memory is looked at ever more rarely.
"""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

from torch import Tensor
from torch.nn import Parameter

from gradscope.recorder.calls.torch_functions import Function
from gradscope.recorder.places.callers import Located
from gradscope.recorder.state.gradient_looks import is_bad_number
from gradscope.recorder.state.resident_memory import resident_bytes
from gradscope.recorder.state.tensors_in import BORING, tensors_in
from gradscope.recorder.tape import Tape
from gradscope.recorder.torch_internals.capabilities import dispatch_modes, is_observed_otherwise
from gradscope.recording.flags import CALL_OP
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import NONE

ERRORS = 32
"""Calls that raise that are recorded after the limit; a program may go on trying."""

EVENTS = 4_096
"""What is no call of a torch function and is noted after the limit; a program may do it in every step."""

INTERVALS = (0.5, 60.0)
"""Seconds between two times at which what was counted goes to a file: the first, and the longest."""

_ROOTS = ("self", "tensors", "outputs")
"""Names of the first argument of what begins a backward pass."""
_AFTER_LIMIT = int(EventKind.AFTER_LIMIT)


class CountedCalls:
    """Counts what is not recorded; all of it under the recorder's lock.

    Args:
        tape: Where rows go in the end.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self.left_out: dict[tuple[int, int], int] = {}
        """Ops by span and function."""
        self._written_at, self._interval = 0.0, INTERVALS[0]
        self._groups: dict[int, Any] = {}
        """By thread: the call into torch's own Python that the op counted last stands for."""
        self._errors = 0
        self._events = 0
        self._passes = 0
        self._bad_passes = 0
        self._resident: list[int] = []
        """Of the process, before the first pass, the second, the fourth …"""
        self._first_bad = (0, NONE, 0)
        """Of the first pass from a loss that is not finite: its number after the limit, span and thread."""

    def go_on_with(self, group: Any, thread: int) -> None:
        """The op recorded last stands for a call into torch's own Python that is under way."""
        self._groups[thread] = group

    def count(self, info: Function, located: Located, text: int, is_group: bool, result: Any, thread: int) -> None:
        """Count a call that has returned, if it would have been an op.

        Args:
            info: The function.
            located: Where it was called.
            text: What the op would have been called.
            is_group: It is a part of a call into torch's own Python, all of which is one op.
            result: What it gave.
            thread: The thread's number.
        """
        if info.kind == CALL_OP and not _touches(info, result):
            return
        if is_group and self._groups.get(thread) == located.group:
            return
        self._groups[thread] = located.group if is_group else None
        self.add(located.site.span, text)

    def add(self, span: int, text: int) -> None:
        """Count one op."""
        key = (span, text)
        self.left_out[key] = self.left_out.get(key, 0) + 1

    def has_room_for_error(self) -> bool:
        """Whether a call that has raised is recorded; it is counted here."""
        self._errors += 1
        return self._errors <= ERRORS

    def has_room_for_event(self) -> bool:
        """Whether an event is recorded; it is counted here."""
        self._events += 1
        return self._events <= EVENTS

    def begin_pass(self, args: Any, kwargs: Any, span: int, thread: int) -> None:
        """Count a backward pass that is about to begin, and look at its loss where that costs nothing."""
        self._passes += 1
        if not self._passes & (self._passes - 1):
            self._resident.append(resident_bytes())
        if dispatch_modes() or is_observed_otherwise():
            return
        given = args[0] if args else [kwargs[name] for name in _ROOTS if name in kwargs]
        if any(map(is_bad_number, tensors_in(given))):
            self._bad_passes += 1
            if self._bad_passes == 1:
                self._first_bad = (self._passes, span, thread)

    def is_due(self) -> bool:
        """Whether what was counted since should go to a file by now: ever more rarely, as each time adds some rows."""
        now = perf_counter()
        if now - self._written_at < self._interval:
            return False
        self._written_at, self._interval = now, min(2 * self._interval, INTERVALS[1])
        return True

    def write_counts(self) -> None:
        """Write what was counted since the last time."""
        for (span, func), count in self.left_out.items():
            self._tape.pending["left_out"] += (span, func, count)
        self.left_out.clear()

    def write(self, passes: int) -> None:
        """Write all that is not written: the recording ends. So many backward passes began before the limit."""
        self.write_counts()
        if self._passes:
            number, span, thread = self._first_bad
            resident = [*self._resident, resident_bytes()]
            detail = {"passes": self._passes, "not_finite": self._bad_passes, "resident": resident}
            subject = passes + number if number else 0
            self._tape.add_event(_AFTER_LIMIT, span, thread, subject, json.dumps(detail), [])


def _touches(info: Function, result: Any) -> bool:
    """Whether a call did something to a tensor, as far as its result and its name tell."""
    kind = type(result)
    if kind is Tensor or kind is Parameter:
        return True
    if info.mutates and info.name.endswith("_"):
        return True
    return (type(kind) is not type or kind not in BORING) and bool(tensors_in(result))
