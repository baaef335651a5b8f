"""Tensors that a function of the program wrote in place, though its caller then reads them beside the result.

``a = jitter(x); b = jitter(x); loss(a, b)`` with a ``jitter`` that adds its noise in place: both are ``x``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.calls.read_arguments import reads_both
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import BindingKind, OpKind


class WrittenArgument(NamedTuple):
    """One tensor."""

    tensor: int
    written: int
    """The call (an op) that wrote it first, of those of the function."""
    span: int
    """The span of the caller's statement that reads it."""
    name: str
    """What the caller handed to the function."""


def written_arguments(index: Index, bindings_of: dict[int, list[int]]) -> Iterator[WrittenArgument]:
    """One for each function and statement that reads; the first that was seen."""
    kinds, flags = index.recording.ops.column("kind"), index.recording.tensors.column("flags")
    by_tensor: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        is_own = kinds[op] == OpKind.CALL and index.op_statement[op] != NOWHERE and not index.func(op).endswith(".grad")
        if is_own and flags[tensor] & PARAMETER == 0 and "<" not in index.op_place(op).function.rpartition(".")[2]:
            by_tensor.setdefault(tensor, []).append(op)
    told: set[tuple[int, int]] = set()
    for tensor, ops in by_tensor.items():
        for found in _of_tensor(index, tensor, ops, bindings_of.get(tensor, ())):
            key = (index.op_statement[found.written], index.statement_of_span[found.span])
            if key not in told:
                told.add(key)
                yield found


def _of_tensor(index: Index, tensor: int, ops: list[int], rows: Sequence[int]) -> Iterator[WrittenArgument]:
    """What callers read of it, by the statements that do."""
    recording, text = index.recording, index.recording.text
    read: dict[int, set[str]] = {}
    spans: dict[int, int] = {}
    for row in (recording.bindings[one] for one in rows):
        if row.kind == BindingKind.LOAD and row.span >= 0:
            statement = index.statement_of_span[row.span]
            read.setdefault(statement, set()).add(text(row.name))
            spans[statement] = row.span
    written: dict[tuple[int, int], int] = {}
    for op in ops:
        where = index.statements[index.op_statement[op]]
        written.setdefault((where.file, where.function), op)
    for statement, names in read.items():
        there = index.statements[statement]
        for (file, function), op in written.items():
            if (there.file, there.function) == (file, function):
                continue
            source, definition = (recording.files[one].text for one in (there.file, file))
            name = reads_both(source, there.line, text(function), frozenset(names), definition)
            if name:
                yield WrittenArgument(tensor, op, spans[statement], name)
