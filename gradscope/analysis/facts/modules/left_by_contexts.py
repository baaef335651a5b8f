"""Parameters of an optimizer that a context manager froze when it was entered, and that are frozen after its end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.modules.calls_that_freeze import ways_of_freezing
from gradscope.analysis.index import Index
from gradscope.frames.blocks.entered_contexts import body_of_with, entering
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import OpKind

PASSES = 2
"""Passes that came after from which on it counts."""


class LeftByContext(NamedTuple):
    """One parameter."""

    tensor: int
    change: int
    """The row of ``changes`` that says so."""
    span: int
    """Where the context manager froze it, or called what did."""
    manager: str
    """Its function."""
    opened: int
    """The span of the ``with``."""
    passes: tuple[int, ...]
    """Backward passes since the ``with`` was left for which the parameter was used."""


def left_by_contexts(index: Index, events: Events) -> Iterator[LeftByContext]:
    """Those that required grad when the ``with`` was entered the first time, and never since."""
    ways = ways_of_freezing(index, events)
    changes, spans = index.recording.changes, index.recording.spans
    of_ops, raised = index.recording.ops.column("span"), index.recording.ops.column("flags")
    passes = [op for op in index.of_kind(OpKind.BACKWARD) if not raised[op] & RAISED]
    for tensor in events.in_optimizers:
        rows = index.changed_ops.get(tensor, [])
        change = changes[rows[-1]] if rows else None
        if change is None or change.after or not change.before:
            continue
        way = next(iter(ways.get(of_ops[change.op], [])), [])
        for span, opened in pairwise(way):
            manager = entering(index.recording.files[spans[span].file].text, spans[span].line)
            if not manager:
                continue
            left = _left_at(index, opened, change.op)
            after = [op for op in passes if 0 <= left < op]
            taken = [op for op in index.users.of(tensor) if op >= left and _computes(index, op)]
            used = tuple(op for before, op in zip([left, *after], after, strict=False) if _any_in(taken, before, op))
            if len(used) >= PASSES:
                yield LeftByContext(tensor, rows[-1], span, manager, opened, used)
            break


def _left_at(index: Index, opened: int, since: int) -> int:
    """The first op after one that the function of a ``with`` made outside of it: it was left by then; else -1."""
    row = index.recording.spans[opened]
    first, last = body_of_with(index.recording.files[row.file].text, row.line)
    if not first:
        return -1
    for op in range(since, index.op_count):
        where = index.statements[index.op_statement[op]]
        if (where.file, where.function) == (row.file, row.function) and not row.line <= where.line <= last:
            return op
    return -1


def _computes(index: Index, op: int) -> bool:
    return index.recording.ops.column("kind")[op] == OpKind.CALL


def _any_in(ops: list[int], after: int, before: int) -> bool:
    return any(after <= op < before for op in ops)
