"""Parameters for which ``requires_grad`` was switched off last."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording import NONE


def switched_off(index: Index, tensor: int) -> int:
    """The row of ``changes`` by which a tensor does not require grad since; NONE where its last change is another."""
    row = index.changed_ops.get(tensor, [NONE])[-1]
    if row < 0:
        return NONE
    change = index.recording.changes[row]
    return row if change.before and not change.after and change.op < index.op_count else NONE
