"""Values that ``load_state_dict`` put into a module and that the module's own first run overwrote.

What lets it run once is an attribute that is no part of the state: a new object begins with it, whatever is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.blocks.first_run_guards import FirstRunGuard, first_run_guard
from gradscope.recording.rows import OpKind

LOADS = "nn.Module.load_state_dict"
_WRITES = ("Tensor.copy_", "Tensor.fill_", "Tensor.__setitem__", "Tensor.data.__set__", "Tensor.set_")
"""Calls that put other values in the place of those that were there."""


class LoadOverwritten(NamedTuple):
    """What the statements that one attribute guards overwrote."""

    file: int
    guard: FirstRunGuard
    tensors: tuple[int, ...]
    load: int
    written: int
    """The first write."""


def loads_overwritten(index: Index) -> Iterator[LoadOverwritten]:
    """One for each attribute."""
    loaded: dict[int, list[tuple[int, int]]] = {}
    for op in index.calls_of(LOADS.__eq__):
        for tensor in list(index.uses.of(op))[::2]:
            loaded.setdefault(index.storage_at(tensor, op), []).append((op, tensor))
    loaded.pop(-1, None)
    found: dict[tuple[int, FirstRunGuard], list[tuple[int, int, int]]] = {}
    guards: dict[int, FirstRunGuard | None] = {}
    for op, storage in _writes(index) if loaded else ():
        before = [(load, tensor) for load, tensor in loaded.get(storage, ()) if load < op]
        statement = index.op_statement[op]
        if not before or statement == NOWHERE:
            continue
        at = index.statements[statement]
        if statement not in guards:
            guards[statement] = first_run_guard(index.recording.files[at.file].text, at.line)
        guard = guards[statement]
        if guard is not None:
            found.setdefault((at.file, guard), []).append((*before[-1], op))
    for (file, guard), writes in found.items():
        yield LoadOverwritten(file, guard, tuple(dict.fromkeys(one[1] for one in writes)), writes[0][0], writes[0][2])


def _writes(index: Index) -> Iterator[tuple[int, int]]:
    """Calls that overwrite a tensor, and the memory that it was on before."""
    kinds = index.recording.ops.column("kind")
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and kinds[op] == OpKind.CALL and index.func(op) in _WRITES:
            yield op, index.storage_at(tensor, op)
    for tensor, moves in index.moves.items():
        for op, _ in moves:
            if op < index.op_count and index.func(op) in _WRITES:
                yield op, index.storage_at(tensor, op - 1)
