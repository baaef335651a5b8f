"""Calls that gave a tensor which nothing took, in statements that are nothing but the call."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.dropped_results import dropped_results
from gradscope.recording.rows import OpKind


class ResultDropped(NamedTuple):
    """The last such call of one line."""

    op: int
    taken: int
    """The tensor whose method was called."""
    owner: str
    """As the source has it."""


def results_dropped(index: Index) -> list[ResultDropped]:
    """One for each line of the user's files."""
    found: list[ResultDropped] = []
    kinds = index.recording.ops.column("kind")
    for number, file in enumerate(index.recording.files):
        dropped = dropped_results(file.text) if file.is_user else {}
        for statement, op in index.last_op.items() if dropped else ():
            where = index.statements[statement]
            owner = dropped.get((where.line, where.end_line)) if where.file == number else None
            made = index.tensors_made(op)
            if owner is None or kinds[op] != OpKind.CALL or len(made) != 1 or not index.func(op).startswith("Tensor."):
                continue
            if not len(index.users.of(made[0])) and len(index.uses.of(op)):
                found.append(ResultDropped(op, index.uses.of(op)[0], owner))
    return found
