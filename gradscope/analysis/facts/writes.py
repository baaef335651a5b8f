"""Every write in place of a run, in its order: what raised the version counter of which tensor, or wrote past it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import Field, OpKind

_BY_PROGRAM = frozenset((OpKind.CALL, OpKind.STEP, OpKind.COLLECTIVE))
_WITH_CLOSURE = re.compile(r"optim\.\w+\.step")
"""How an optimizer's step is called that was recorded op by op: it ran a closure, or hooks."""
_COPIES = re.compile(r"Tensor\.(clone|contiguous|to|cpu|cuda|detach|data\.__get__|pin_memory|view|reshape|view_as)")
"""What gives the values of a tensor as they are."""


def all_writes(index: Index) -> Iterator[tuple[int, int, int, int]]:
    """Every write: op, tensor, version before and after.

    The version before is NONE for a write past the version counter, which stayed as it was. A write of which it is not
    known whether it took place is not among them; see :func:`possible_writes`. One whose op is ``index.op_count`` was
    found when all ops were over: no call that was seen wrote it.
    """
    changes = index.recording.changes
    columns = (changes.column(name) for name in ("op", "tensor", "before", "after"))
    return zip(*(map(column.__getitem__, index.written_rows) for column in columns), strict=True)


def possible_writes(index: Index) -> Iterator[tuple[int, int]]:
    """Writes of which it is not known whether they took place, since the device decided: op and tensor."""
    changes = index.recording.changes
    rows = zip(*(changes.column(name) for name in ("op", "tensor", "field", "after")), strict=True)
    return ((op, tensor) for op, tensor, field, after in rows if field == Field.WRITTEN and after == 0)


def writes_by_program(index: Index) -> Iterator[tuple[int, int, int, int]]:
    """Writes by single calls and by steps of optimizers, as :func:`all_writes` gives them.

    A tensor that the call made itself was not written: the version that it was born with is how it came to be. What
    torch's own Python wrote (an initialisation) was not the program's doing.
    """
    tensors, kinds = index.recording.tensors, index.recording.ops.column("kind")
    flags, made_at = tensors.column("flags"), tensors.column("op")
    for op, tensor, before, after in all_writes(index):
        born_here = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        if op < index.op_count and not born_here and (kinds[op] in _BY_PROGRAM or is_step(index, op)):
            yield op, tensor, before, after


def all_steps(index: Index) -> list[int]:
    """The ops, in order, that are steps of optimizers of torch's own."""
    return [op for op in index.of_kind(OpKind.STEP, OpKind.GROUP) if is_step(index, op)]


def is_step(index: Index, op: int) -> bool:
    """Whether an op is a step of an optimizer of torch's own."""
    kind = index.recording.ops.column("kind")[op]
    return kind == OpKind.STEP or (kind == OpKind.GROUP and bool(_WITH_CLOSURE.fullmatch(index.func(op))))


def replaced_memory(index: Index) -> Iterator[tuple[int, int, int]]:
    """Tensors that the program put on other memory with other values: op, tensor, and the storage that it was on.

    ``x.data = y``, or ``vector_to_parameters``. The version counter stays as it was, as do all who look at the memory
    that it was on. Where the values are a copy of those before (a move to another device), nothing was written.
    """
    changes, kinds = index.recording.changes, index.recording.ops.column("kind")
    columns = (changes.column(name) for name in ("op", "tensor", "field", "before"))
    for op, tensor, field, storage in zip(*columns, strict=True):
        if field != Field.STORAGE or op >= index.op_count:
            continue
        if kinds[op] == OpKind.SET:
            if not _is_copy(index, op, storage):
                yield op, tensor, storage
        elif index.func(op) == "nn.utils.vector_to_parameters":
            yield op, tensor, storage


def _is_copy(index: Index, set_op: int, storage: int) -> bool:
    """Whether what ``x.data`` was set to has the values of what was on a storage."""
    made_at, on = (index.recording.tensors.column(name) for name in ("op", "storage"))
    tensor = index.uses.of(set_op)[-1]
    while on[tensor] != storage:
        op = made_at[tensor]
        if op >= set_op or not _COPIES.fullmatch(index.method(op)) or not index.uses.of(op):
            return False
        set_op, tensor = op, index.uses.of(op)[0]
    return True


def last_written(index: Index) -> dict[int, int]:
    """The last op that wrote into each memory block, or may have, or put the tensor that was on it on another.

    A view that a call made has the version of its base from birth: that is no write. What raised its version after
    that, inside the same call of a library, is one (``AveragedModel.update_parameters`` writes through ``detach()``).
    """
    flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
    written = (
        (tensor, op)
        for op, tensor, before, _ in all_writes(index)
        if op != made_at[tensor] or flags[tensor] & EXTERNAL or before
    )
    possible = ((tensor, op) for op, tensor in possible_writes(index))
    replaced = ((tensor, op) for op, tensor, _ in replaced_memory(index))
    last: dict[int, int] = {}
    for tensor, op in chain(written, possible, replaced):
        storage = index.storage_at(tensor, op)
        last[storage] = max(op, last.get(storage, NONE))
    return last
