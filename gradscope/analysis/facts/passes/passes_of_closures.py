"""What calls of LBFGS's closure did: the step reads the gradients after each, which a backward in it is to give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import CONTINUED, RAISED
from gradscope.recording.rows import Field, OpFlag, OpKind

STEP = "optim.LBFGS.step"
CALLS = 3
"""Calls of a closure from which on it is reported."""

_ABOUT_GRADIENTS = (OpKind.BACKWARD, OpKind.GRAD, OpKind.READ_GRAD)


class IdleClosure(NamedTuple):
    """A closure none of whose calls gave a gradient."""

    step: int
    """The last op of a step that called it."""
    loss: int
    """The last number that it computed: an op."""
    no_grad: int
    """The op that switched gradients off in it, or NONE."""
    calls: int


def idle_closures(index: Index) -> Iterator[IdleClosure]:
    """One for each line that makes such steps, where no call of a closure there did anything about gradients."""
    ops = index.recording.ops
    kinds, flags = ops.column("kind"), ops.column("flags")
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "field", "after"))
    written = {
        op
        for op, field, after in zip(*columns, strict=True)
        if field == Field.VERSION or (field == Field.GRAD and after >= 0)
    }
    own = {op for op in written if op < index.op_count and kinds[op] != OpKind.GROUP}  # (zero_grad gives nothing)
    by_line: dict[int, list[range]] = {}
    last: dict[int, int] = {}
    for op in index.calls_of(STEP.__eq__):
        statement = index.op_statement[op]
        if flags[op] & CONTINUED and statement in last:
            by_line.setdefault(statement, []).append(range(last[statement] + 1, op))
        last[statement] = op
    for statement, calls in by_line.items():
        inside = [op for one in calls for op in one]
        is_idle = not any(kinds[op] in _ABOUT_GRADIENTS or op in own or flags[op] & RAISED for op in inside)
        losses = [_loss(index, one) for one in calls]
        if statement == NOWHERE or not is_idle or len(calls) < CALLS or NONE in losses:
            continue
        off = [op for op in calls[-1] if kinds[op] == OpKind.MODE and not flags[losses[-1]] & OpFlag.GRAD]
        yield IdleClosure(last[statement], losses[-1], off[0] if off else NONE, len(calls))


def _loss(index: Index, ops: range) -> int:
    """The last op of the user's that made a number; NONE where none did."""
    layouts, of = index.recording.layouts, index.recording.tensors.column("layout")
    for op in reversed(ops):
        for made in index.tensors_made(op) if index.op_statement[op] != NOWHERE else ():
            if index.recording.text(layouts[of[made]].shape) == "()":
                return op
    return NONE
