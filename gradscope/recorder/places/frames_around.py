"""In which of the user's functions something happened: an error of torch's, which one of them may have caught.

Of a tensor that is frozen, and of train() and eval(), it tells for whom: a helper that does so is called from several
places.
"""

from __future__ import annotations

import json
from types import FrameType

from gradscope.frames.tracebacks import CALL_NAME
from gradscope.recorder.places.callers import CallSites
from gradscope.recorder.places.code_owners import Owner
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

_DEPTH = 32
"""Frames of the user's that are noted of one call, the innermost first."""
_NOTED = 64
"""Ways through frames that are noted in one recording; a program may try the same in a loop for ever."""
_LOOKED_AT = 32
"""Calls of one instruction for which the frames around are looked at."""


class FramesAround:
    """The ways that led to calls of one kind, each once.

    Args:
        tape: Where they are noted.
        sites: Knows the user's frames.
        kind: Of the events.
    """

    def __init__(self, tape: Tape, sites: CallSites, kind: EventKind) -> None:
        self._tape = tape
        self._sites = sites
        self._kind = int(kind)
        self._seen: set[tuple[int, ...]] = set()
        self._times: dict[int, int] = {}

    def note(self, op: int, frame: FrameType, thread: int) -> None:
        """Note the user's frames around a call.

        Args:
            op: The call.
            frame: The innermost frame of the user's.
            thread: Number of the thread.
        """
        at = self._sites.spans.of(frame)[0]
        times = self._times[at] = self._times.get(at, 0) + 1
        if times <= _LOOKED_AT and len(self._seen) < _NOTED:
            spans = self.frames(frame)
            if spans and tuple(spans) not in self._seen:
                self._seen.add(tuple(spans))
                self._tape.add_event(self._kind, spans[0], thread, op, json.dumps({"through": spans}), [])

    def frames(self, frame: FrameType) -> list[int]:
        """The spans at which the user's functions are around a frame, the innermost first."""
        return spans_around(self._sites, frame)


def spans_around(sites: CallSites, frame: FrameType) -> list[int]:
    """The spans at which the user's functions are around a frame, the innermost first."""
    spans: list[int] = []
    current: FrameType | None = frame
    while current is not None and len(spans) < _DEPTH:
        if sites.owners.of(current.f_code) is Owner.USER and current.f_code.co_name != CALL_NAME:
            spans.append(sites.spans.of(current)[0])
        current = current.f_back
    return spans
