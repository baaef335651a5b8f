"""Parts of NumPy arrays that are kept, each of which keeps a whole result of torch's alive that nothing else needs.

An array that ``numpy()`` gives is on the memory of the tensor, which may be a view of more. Where the text takes a part
of the array only and the array stays, it is the part that keeps it: a view of an array holds the array.
"""

from __future__ import annotations

import ast
import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.memory.kept_views import RUNS, TIMES_LARGER, WORTH_SAYING, held_tensors
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import Index
from gradscope.frames.calls.parts_of_arrays import elements_of_part, parts_of_arrays
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind


class KeptArrayParts(NamedTuple):
    """The arrays of one call that are there at the end, or were at once, for parts of them."""

    op: int
    """The last call that gave one."""
    arrays: int
    tensor: int
    """What that one was made from."""
    are_sliced: bool
    """The text takes parts of the arrays; else they are of parts of tensors."""
    shown: int
    """Bytes that the parts show."""
    held: int
    """Bytes of the memory blocks."""
    event: int


class _Array(NamedTuple):
    op: int
    died: int
    tensor: int


def kept_array_parts(index: Index, sharing: StorageGroups, events: Events) -> Iterator[KeptArrayParts]:
    """One for each call whose arrays pile up."""
    held: set[int] | None = None
    sites = [(event, list(_arrays(event))) for event in events.of(EventKind.ARRAYS) if event.span >= 0]
    for event, arrays in sites:
        if len(arrays) < RUNS or arrays[-1].op >= index.op_count:
            continue
        indices = _indices(index, event, arrays[-1])
        held = held_tensors(index) if held is None else held
        calls = [array.op for array in arrays]
        alone = [one for one in _at_once(index, arrays) if _is_alone(index, sharing, held, one, calls)]
        storages = {index.storage_at(one.tensor, one.op) for one in alone}
        others = (one for other, ones in sites if other != event for one in ones)
        if any(index.storage_at(one.tensor, one.op) in storages for one in others):
            continue  # (parts of several calls may be the whole together)
        shown = [_shown(index, sharing, one, indices) for one in alone]
        block = sum(_block(index, one) for one in alone)
        if len(alone) >= RUNS and None not in shown:
            bytes_shown = sum(one for one in shown if one is not None)
            if block - bytes_shown >= WORTH_SAYING and bytes_shown * TIMES_LARGER <= block:
                last = alone[-1]
                yield KeptArrayParts(last.op, len(alone), last.tensor, bool(indices), bytes_shown, block, event.row)


def _arrays(event: Happened) -> Iterator[_Array]:
    """The arrays of an event; none where a file that was changed by hand has others."""
    for row, tensor in zip(event.detail.get("arrays", ()), event.tensors, strict=False):
        if isinstance(row, list) and len(row) == 2 and all(type(number) is int for number in row):
            yield _Array(row[0], row[1], tensor)


def _indices(index: Index, event: Happened, last: _Array) -> list[ast.expr]:
    span, method = index.recording.spans[event.span], index.func(last.op).rpartition(".")[2]
    return parts_of_arrays(index.recording.files[span.file].text, span.line, method) if span.file >= 0 else []


def _at_once(index: Index, arrays: list[_Array]) -> list[_Array]:
    """The first array of each memory block, where the most blocks had one."""
    there: dict[int, _Array] = {}
    most: list[_Array] = []
    for one in arrays:
        there = {at: other for at, other in there.items() if other.died == NONE or other.died > one.op}
        there.setdefault(index.storage_at(one.tensor, one.op), one)
        if len(there) >= len(most):
            most = list(there.values())
    return most


def _is_alone(index: Index, sharing: StorageGroups, held: set[int], array: _Array, calls: list[int]) -> bool:
    """Whether an array's block was made since the call before, again and again, and nothing else needs it for long."""
    storage, at = index.storage_at(array.tensor, array.op), bisect_left(calls, array.op)
    if storage < 0 or index.recording.storages.column("external")[storage]:
        return False
    born = index.recording.storages.column("op")[storage]
    is_repeated = born < index.op_count and index.calls_like(born) >= RUNS
    if not is_repeated or born <= (calls[at - 1] if at else NONE):
        return False
    after = calls[at + 1] if at + 1 < len(calls) else index.op_count
    tensors = {array.tensor, *sharing.tensors_on.get(storage, ())}
    return not any(one in held or any(op >= after for op in index.users.of(one)) for one in tensors)


def _shown(index: Index, sharing: StorageGroups, array: _Array, indices: list[ast.expr]) -> int | None:
    """Bytes of the parts that are taken of an array, or of all of it; None where the text does not tell."""
    recording, storage = index.recording, index.storage_at(array.tensor, array.op)
    layout = recording.layouts[recording.tensors.column("layout")[array.tensor]]
    shape = [int(size) for size in re.findall(r"\d+", recording.text(layout.shape))]
    if not indices:  # (where no tensor showed more of the block, torch made it larger than what it computed)
        on_block = sharing.tensors_on.get(storage, ())
        layouts = recording.tensors.column("layout")
        is_part = any(recording.layouts.column("nbytes")[layouts[one]] > layout.nbytes for one in on_block)
        return layout.nbytes if is_part else None
    counts = [elements_of_part(one, shape) for one in indices]
    whole = math.prod(shape)
    if not whole or None in counts:
        return None
    return sum(one for one in counts if one is not None) * layout.nbytes // whole


def _block(index: Index, array: _Array) -> int:
    return index.recording.storages.column("nbytes")[index.storage_at(array.tensor, array.op)]
