"""What batch norms in training mode did with their running statistics."""

from __future__ import annotations

from gradscope.analysis.index import Index
from gradscope.recording.rows import Field

LEARNED, KEPT = 1, 2
"""As ``Field.WRITTEN`` says it: with a momentum of zero a norm puts the values there that were there."""

_WEIGHT = slice(3, 4)
"""Of what a call takes: the input and the statistics come before it."""


def runs_in_training(index: Index, written: int) -> list[tuple[int, int]]:
    """Calls in training mode that did with the statistics what is given: op and the weight, in order."""
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "field", "after"))
    ops = {
        op
        for op, field, after in zip(*columns, strict=True)
        if field == Field.WRITTEN and after == written and op < index.op_count
    }
    norms = sorted(op for op in ops if index.func(op) == "F.batch_norm")
    return [(op, weight) for op in norms for weight in index.uses.of(op)[_WEIGHT]]
