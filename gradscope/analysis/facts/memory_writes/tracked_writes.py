"""Tensors that come to have a graph by what is written into them: ``priority[index] = error.abs()``.

Each such write puts its node on top of the graph that the tensor has by then, so that this grows with every one.
"""

from __future__ import annotations

from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import REQUIRES_GRAD
from gradscope.recording.rows import Field


def tracked_writes(index: Index) -> dict[tuple[int, int], list[int]]:
    """By statement and tensor: the ops that gave the tensor another grad_fn by a write, in order.

    Only of tensors that had no graph when they were made, and that have one at the end.
    """
    changes, flags = index.recording.changes, index.recording.tensors.column("flags")
    found: dict[tuple[int, int], list[int]] = {}
    last: dict[int, int] = {}
    columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
    for op, tensor, field, after in zip(*columns, strict=True):
        if field != Field.GRAD_FN or flags[tensor] & REQUIRES_GRAD:
            continue
        last[tensor] = after
        if after >= 0 and op < index.op_count and index.op_statement[op] != NOWHERE and not is_step(index, op):
            found.setdefault((index.op_statement[op], tensor), []).append(op)
    return {key: ops for key, ops in found.items() if last[key[1]] >= 0}
