"""The collectives that have begun and are not over: of a process that waits in one, the last that is known."""

from __future__ import annotations

import json
from time import time
from typing import Any

from gradscope.recorder.calls.collective_calls import ALWAYS
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import NONE

_COLLECTIVE, _WAITS = int(EventKind.COLLECTIVE), int(EventKind.COLLECTIVE_WAITS)


class WaitingCollectives:
    """One for each thread.

    Args:
        tape: Where events go.
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._details: dict[int, dict[str, Any]] = {}

    def begin(self, detail: dict[str, Any], thread: int) -> None:
        """A collective begins: what is special of it."""
        detail["at"] = round(time(), 3)
        self._details[thread] = detail

    def note(self, span: int, thread: int) -> None:
        """Note the one that a thread is in before it is over: this process may be killed in it."""
        self._add(self._details[thread], span, thread)

    def end(self, op: int, span: int, thread: int) -> None:
        """A thread's collective, if it was in one, is over, and is an op."""
        detail = self._details.pop(thread, {})
        if len(detail) > len(ALWAYS):
            text = json.dumps({key: detail[key] for key in detail if key not in ALWAYS}, sort_keys=True)
            self._tape.add_event(_COLLECTIVE, span, thread, op, text, [])

    def forget(self, thread: int) -> None:
        """A thread's collective is over, and no op."""
        self._details.pop(thread, None)

    def note_all(self) -> None:
        """Note those that have not returned, at the end."""
        for thread, detail in self._details.items():
            self._add({**detail, "at_end": True}, NONE, thread)

    def _add(self, detail: dict[str, Any], span: int, thread: int) -> None:
        self._tape.add_event(_WAITS, span, thread, NONE, json.dumps(detail, sort_keys=True), [])
