"""Events of a recording, with their detail read and the tensors that they are about."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any, NamedTuple

from gradscope.analysis.index import Index
from gradscope.analysis.sorted_rows import SortedRows
from gradscope.recording.rows import EventKind


class Happened(NamedTuple):
    """One event."""

    row: int
    op: int
    """The number of ops seen before it."""
    span: int
    thread: int
    subject: int
    detail: dict[str, Any]
    tensors: tuple[int, ...]


class Events:
    """The events of one recording, by kind."""

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def _tensors(self) -> SortedRows:
        return SortedRows(self._index.recording.event_tensors, "event", "tensor")

    @property
    def spans(self) -> int:
        """How many spans there are, which a detail may name."""
        return len(self._index.recording.spans)

    def of(self, kind: EventKind) -> list[Happened]:
        """Events of one kind, in the order of the run."""
        return [self._happened(row) for row in self._index.events_by_kind.get(kind, ())]

    def _happened(self, number: int) -> Happened:
        recording = self._index.recording
        row = recording.events[number]
        detail = _read(recording.text(row.detail))
        return Happened(number, row.op, row.span, row.thread, row.subject, detail, tuple(self._tensors.of(number)))

    @cached_property
    def in_optimizers(self) -> dict[int, list[Happened]]:
        """For each tensor that an optimizer was given: the events at which it was."""
        found: dict[int, list[Happened]] = {}
        for event in self.of(EventKind.OPTIMIZER):
            for tensor in event.tensors:
                found.setdefault(tensor, []).append(event)
        return found


def _read(text: str) -> dict[str, Any]:
    """The detail of an event; empty where a file that was changed by hand holds something else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
