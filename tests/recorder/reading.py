"""Reading a recording in tests: rows with their texts and names."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from gradscope.recording import NONE, Recording
from gradscope.recording.rows import EventKind, Field, Op, Tensor


def functions(recording: Recording) -> list[str]:
    """The functions called, in order."""
    return [recording.text(op.func) for op in recording.ops]


def op_named(recording: Recording, function: str, occurrence: int = 0) -> tuple[int, Op]:
    """Id and row of an op, by its function."""
    found = [(row, op) for row, op in enumerate(recording.ops) if recording.text(op.func) == function]
    return found[occurrence]


def line_of(recording: Recording, op: Op) -> str:
    """Source text of an op's span, stripped."""
    span = recording.spans[op.span]
    return recording.source(span.file, span.line).strip()


def call_text(recording: Recording, op: Op) -> str:
    """Exactly the source text of the call, on one line."""
    span = recording.spans[op.span]
    line = recording.source(span.file, span.line).encode()
    return line[span.col : span.end_col].decode()


def tensor_called(recording: Recording, name: str) -> int:
    """Row of the tensor that a name was last seen to hold."""
    return [binding.tensor for binding in recording.bindings if recording.text(binding.name) == name][-1]


def row_called(recording: Recording, name: str) -> Tensor:
    """The tensor that a name was last seen to hold."""
    return recording.tensors[tensor_called(recording, name)]


def changes_of(recording: Recording, tensor: int, field: Field) -> list[tuple[int, int]]:
    """What changed about a tensor: before and after."""
    return [(row.before, row.after) for row in recording.changes if row.tensor == tensor and row.field == field]


def node_name(recording: Recording, node: int) -> str | None:
    """Name of a node, or None."""
    return None if node == NONE else recording.text(recording.nodes[node].name)


def names_of(recording: Recording, tensor: int) -> set[str]:
    """Every name that was seen to hold a tensor."""
    return {recording.text(row.name) for row in recording.bindings if row.tensor == tensor}


class EventRow(NamedTuple):
    """An event, read."""

    line: int
    subject: int
    detail: dict[str, Any]
    names: list[str]
    """Of its tensors: one each."""


def events_read(recording: Recording, kind: EventKind) -> list[EventRow]:
    """The events of one kind."""
    found, bound = list[EventRow](), {row.tensor: recording.text(row.name) for row in recording.bindings}
    for number, event in enumerate(recording.events):
        if event.kind == kind:
            line = recording.spans[event.span].line if event.span != NONE else 0
            names = [bound.get(one.tensor, "") for one in recording.event_tensors if one.event == number]
            found.append(EventRow(line, event.subject, json.loads(recording.text(event.detail)), names))
    return found
