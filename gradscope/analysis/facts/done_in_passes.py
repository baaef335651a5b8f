"""What code of the program's did to tensors inside backward passes: hooks, and the backward of a Function."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.analysis.worded_lines import NamedLine
from gradscope.recording.rows import EventKind


class DoneInPass(NamedTuple):
    """What one place did."""

    line: NamedLine
    did: str
    """``wrote``, or what happened to gradients: ``cleared``, ``set``, ``asked`` (for them, by another pass)."""
    tensors: tuple[int, ...]


class DoneInPasses:
    """What was done inside the passes of one recording.

    Args:
        index: The recording.
    """

    def __init__(self, index: Index) -> None:
        self._index = index

    @cached_property
    def by_statement(self) -> dict[int, list[DoneInPass]]:
        """For each statement that began passes, by line."""
        index, found = self._index, dict[int, list[DoneInPass]]()
        for event in Events(index).of(EventKind.INSIDE_PASS):
            if event.span >= 0 and 0 <= event.subject < len(index.statement_of_span) - 1:
                done = DoneInPass(index.span_line(event.span), str(event.detail.get("did")), event.tensors)
                found.setdefault(index.statement_of_span[event.subject], []).append(done)
        for several in found.values():
            several.sort(key=lambda one: one.line)
        return found

    def cleared_at(self, tensor: int, op: int) -> NamedLine | None:
        """The line that set the gradient of a tensor to None inside the passes of a pass's statement, if one did."""
        return self._did("cleared", tensor, op)

    def asked_at(self, tensor: int, op: int) -> NamedLine | None:
        """The line that asked for the gradient of a tensor inside these, by a pass of its own, if one did."""
        return self._did("asked", tensor, op)

    def _did(self, what: str, tensor: int, op: int) -> NamedLine | None:
        done = self.by_statement.get(self._index.op_statement[op], [])
        return next((one.line for one in done if one.did == what and tensor in one.tensors), None)
