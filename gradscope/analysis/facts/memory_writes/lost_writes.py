"""Writes into tensors that the writing statement made itself, which nothing uses afterwards.

``x[mask].zero_()`` writes a copy, since an index by a mask or by a list of numbers makes one; ``layer.weight`` of a
layer with a parametrization is computed anew at each access.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.writes_to_temporaries import temporaries_written
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind


class LostWrite(NamedTuple):
    """The last run of one statement."""

    op: int
    """The write."""
    source: int
    """What the tensor was computed from."""
    written: str
    """The expression that gives the tensor."""
    is_parametrized: bool
    """Whether a module computed it as an attribute was read; else the statement indexes, converts or copies."""


def lost_writes(index: Index) -> Iterator[LostWrite]:
    """One for each statement all of whose writes are lost."""
    last: dict[int, LostWrite | None] = {}
    kinds, made_at = index.recording.ops.column("kind"), index.recording.tensors.column("op")
    for op, tensor, _, _ in all_writes(index):
        statement = index.op_statement[op] if op < index.op_count else NOWHERE
        if statement == NOWHERE or last.get(statement, ()) is None or made_at[tensor] == op:
            continue
        is_writer = kinds[op] == OpKind.CALL or index.func(op).startswith("nn.init.")
        where = index.statements[statement]
        written = temporaries_written(index.recording.files[where.file].text).get(where.line) if is_writer else None
        last[statement] = _lost(index, op, tensor, written) if written else None
    yield from (found for found in last.values() if found is not None)


def _lost(index: Index, op: int, tensor: int, written: str) -> LostWrite | None:
    """The write, where the tensor was computed from another one in the same statement, and was gone right after it."""
    tensors, storages = index.recording.tensors, index.recording.storages
    flags, made, storage = (tensors.column(name)[tensor] for name in ("flags", "op", "storage"))
    if flags & EXTERNAL or storage < 0 or storages.column("external")[storage]:
        return None
    is_own = index.op_statement[storages.column("op")[storage]] == index.op_statement[op]
    if not is_own or not op < storages.column("died")[storage] <= op + 1:
        return None
    source = next((use for use in index.uses.of(made) if tensors.column("storage")[use] != storage), NONE)
    is_module = index.func(made) == "nn.Module._wrapped_call_impl" and "(" not in written
    return LostWrite(op, source, written, is_module) if source >= 0 else None
