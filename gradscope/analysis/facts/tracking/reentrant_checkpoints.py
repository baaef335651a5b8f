"""Reentrant activation checkpointing that keeps all gradients out: none of its arguments required grad."""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.index import Index
from gradscope.frames.calls.given_keywords import keyword_elsewhere
from gradscope.recording.rows import EventKind


class ReentrantCheckpoints:
    """The ops that ran in such calls. They run without a graph, and the call is a node only where an argument asks."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def around(self, op: int) -> Happened | None:
        """The outermost call in which an op ran and which no tensor that required grad went into."""
        if EventKind.REENTRANT_CHECKPOINT not in self._kinds:
            return None
        thread = self._index.recording.ops.column("thread")[op]
        return next((one for one, end in self._calls if one.op <= op < end and one.thread == thread), None)

    def told_at(self, call: Happened) -> tuple[int, int] | None:
        """The file and line that tell such a call to be reentrant, where the statement that runs it does not."""
        if call.span < 0:
            return None
        span = self._index.recording.spans[call.span]
        text = self._index.recording.files[span.file].text if span.file >= 0 else ""
        line = keyword_elsewhere(text, span.stmt_line, span.stmt_end_line, "use_reentrant")
        return (span.file, line) if line else None

    @cached_property
    def _kinds(self) -> frozenset[int]:
        return frozenset(self._index.recording.events.column("kind"))

    @cached_property
    def _calls(self) -> list[tuple[Happened, int]]:
        """Where each began, and the op before which it was done."""
        begun, found = dict[int, Happened](), list[tuple[Happened, int]]()
        for event in Events(self._index).of(EventKind.REENTRANT_CHECKPOINT):
            if event.detail.get("begins"):
                begun[event.subject] = event
            elif (first := begun.pop(event.subject, None)) is not None and first.detail.get("requires_grad") is False:
                found.append((first, event.op))
        return sorted(found, key=lambda call: call[0].op)
