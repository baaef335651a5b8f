"""Errors that a program caught: where, and whether it may have asked for them."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.frames.blocks.handlers import Caught, Passed, caught
from gradscope.recording.rows import EventKind


class CaughtErrors:
    """The ways that the errors of one recording took through the user's functions."""

    def __init__(self, index: Index, events: Events) -> None:
        self._index = index
        self._events = events

    @cached_property
    def _ways(self) -> dict[int, list[int]]:
        """By the span of the call that raised: the spans around it, the innermost first, on the last way seen."""
        spans = len(self._index.recording.spans)
        found: dict[int, list[int]] = {}
        for kind in (EventKind.RAISED, EventKind.REFUSED):
            for event in self._events.of(kind):
                way = event.detail.get("through")
                if isinstance(way, list) and all(isinstance(one, int) and 0 <= one < spans for one in way):
                    found[event.span] = way
        return found

    def way(self, span: int) -> list[int]:
        """The spans around a call that raised, the innermost first, on the last way seen."""
        return self._ways.get(span, [])

    def at(self, span: int, error: str) -> Caught | None:
        """Who caught the error of a call, as far as the text tells; None where nothing shows it.

        Args:
            span: Of the call that raised.
            error: The name of the error's class.
        """
        recording = self._index.recording
        way = self._ways.get(span, [])
        rows = [recording.spans[span] for span in way]
        return caught([Passed(recording.files[row.file].text, row.line) for row in rows], error)
