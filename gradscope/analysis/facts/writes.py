"""Every write in place of a run, in its order: what raised the version counter of which tensor."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_BY_PROGRAM = frozenset((OpKind.CALL, OpKind.STEP))


def all_writes(index: Index) -> Iterator[tuple[int, int, int, int]]:
    """Every write: op, tensor, version before and after.

    One whose op is ``index.op_count`` was found when all ops were over: no call that was seen wrote it.
    """
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "tensor", "before", "after"))
    return zip(*(map(column.__getitem__, index.written_rows) for column in columns), strict=True)


def writes_by_program(index: Index) -> Iterator[tuple[int, int, int, int]]:
    """Writes by single calls and by steps of optimizers, as :func:`all_writes` gives them.

    A tensor that the call made itself was not written: the version that it was born with is how it came to be. What
    torch's own Python wrote (an initialisation) was not the program's doing.
    """
    tensors, kinds = index.recording.tensors, index.recording.ops.column("kind")
    flags, made_at = tensors.column("flags"), tensors.column("op")
    for op, tensor, before, after in all_writes(index):
        born_here = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        if op < index.op_count and not born_here and kinds[op] in _BY_PROGRAM:
            yield op, tensor, before, after
