"""Reentrant activation checkpointing, and the gradients that it keeps out.

All of them where none of its arguments required grad; and those of what its function leaves elsewhere than in what it
returns: a term that a layer keeps as an attribute. It runs without a graph in the forward pass.
"""

from __future__ import annotations

from functools import cached_property

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.index import Index
from gradscope.frames.calls.given_keywords import keyword_elsewhere
from gradscope.recording.flags import EXTERNAL
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

    def left_by(self, tensor: int, at: int) -> Happened | None:
        """The call that made a tensor which an op took when the call was over, without the graph that it returned."""
        if EventKind.REENTRANT_CHECKPOINT not in self._kinds or self._index.requires_grad(tensor, at):
            return None
        made, thread = self._index.recording.tensors.column("op")[tensor], self._index.recording.ops.column("thread")
        if made >= self._index.op_count or self._index.recording.tensors.column("flags")[tensor] & EXTERNAL:
            return None
        return next(
            (one for one, end in self._returning if one.op <= made < end <= at and one.thread == thread[made]), None
        )

    @property
    def tracked_calls(self) -> list[tuple[Happened, int]]:
        """Those that returned something with a graph, in order, each with the op before which it was done."""
        return self._returning if EventKind.REENTRANT_CHECKPOINT in self._kinds else []

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
        """Where each of those began that nothing with a gradient went into, and the op before which it was done."""
        return [call for call in self._all_calls if call[0].detail.get("requires_grad") is False]

    @cached_property
    def _returning(self) -> list[tuple[Happened, int]]:
        """The others: what they return has a graph."""
        return [call for call in self._all_calls if call[0].detail.get("requires_grad") is True]

    @cached_property
    def _all_calls(self) -> list[tuple[Happened, int]]:
        begun, found = dict[int, Happened](), list[tuple[Happened, int]]()
        for event in Events(self._index).of(EventKind.REENTRANT_CHECKPOINT):
            if event.detail.get("begins"):
                begun[event.subject] = event
            elif (first := begun.pop(event.subject, None)) is not None:
                found.append((first, event.op))
        return sorted(found, key=lambda call: call[0].op)
