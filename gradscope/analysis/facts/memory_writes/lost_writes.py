"""Writes into tensors that the writing statement made itself, which nothing uses afterwards.

``x[mask].zero_()`` writes a copy, since an index by a mask or by a list of numbers makes one; ``layer.weight`` of a
layer with a parametrization is computed anew at each access.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.computed_weights import ComputedWeights
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.without_effect.writes_to_temporaries import temporaries_written
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, SET_OP
from gradscope.recording.rows import OpKind

_PARTS = re.compile(r"(\.data|\.detach\(\)|\[[^\]]*\])+$|^\w+(\.data|\.detach\(\)|\[[^\]]*\])*$")
"""What stands behind the name of a weight; all of what is a name alone, under which it was put."""
_ATTRIBUTE = re.compile(r"[\w.\[\]]+|getattr\(.*\)")
"""The source of what computed one as an attribute was read; of others it is the call of a layer."""


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
    """One for each statement all of whose writes are lost, or some of whose were into what a module computes anew."""
    last: dict[int, LostWrite | None] = {}
    computed: dict[int, LostWrite] = {}
    kinds, made_at = index.recording.ops.column("kind"), index.recording.tensors.column("op")
    weights = ComputedWeights(index)
    for op, tensor in sorted(chain(((op, tensor) for op, tensor, _, _ in all_writes(index)), _replaced(index))):
        statement = index.op_statement[op] if op < index.op_count else NOWHERE
        if statement == NOWHERE or made_at[tensor] == op:
            continue
        is_set, is_init = kinds[op] == SET_OP, index.func(op).startswith("nn.init.")
        where = index.statements[statement]
        is_writer = kinds[op] == OpKind.CALL or is_set or is_init
        written = temporaries_written(index.recording.files[where.file].text).get(where.line) if is_writer else None
        source = weights.source(op, tensor) if is_writer else NONE
        if source >= 0:
            computed[statement] = LostWrite(op, source, _weight(index, weights, tensor, written or ""), True)
        elif not is_set and last.get(statement, ()) is not None:
            last[statement] = _lost(index, op, tensor, written) if written else None
    yield from computed.values()
    yield from (found for at, found in last.items() if found is not None and at not in computed)


def _weight(index: Index, weights: ComputedWeights, tensor: int, written: str) -> str:
    """How the program calls a weight that it wrote into: ``layer.weight`` of ``layer.weight.data[0]``."""
    weight = _PARTS.sub("", written)
    storage = index.recording.tensors.column("storage")[tensor]
    made = index.span_source(index.recording.storages.column("op")[storage])
    return weight or (made if _ATTRIBUTE.fullmatch(made) else weights.name(tensor)) or "the weight"


def _replaced(index: Index) -> Iterator[tuple[int, int]]:
    """What was put on other memory: ``layer.weight.data = values``."""
    for tensor, moves in index.moves.items():
        yield from ((op, tensor) for op, _ in moves if op < index.op_count)


def _lost(index: Index, op: int, tensor: int, written: str) -> LostWrite | None:
    """The write, where the tensor was computed from another one in the same statement, and was gone right after it."""
    tensors, storages = index.recording.tensors, index.recording.storages
    flags, storage = (tensors.column(name)[tensor] for name in ("flags", "storage"))
    if flags & EXTERNAL or storage < 0 or storages.column("external")[storage]:
        return None
    made = storages.column("op")[storage]  # (the tensor itself may be a view of what it made)
    if index.op_statement[made] != index.op_statement[op] or not op < storages.column("died")[storage] <= op + 1:
        return None
    source = next((use for use in index.uses.of(made) if tensors.column("storage")[use] != storage), NONE)
    return LostWrite(op, source, written, False) if source >= 0 else None
