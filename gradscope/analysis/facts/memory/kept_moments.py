"""Arrays and tensors that were kept one after another, all of them on one memory that was written in between.

Each was taken to have the values of its moment, for else one of them would do: all of them have the last ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.calls.sliced_results import is_sliced
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import EventKind, OpKind

AT_LEAST = 3
"""Arrays of different moments that are held at once: of two, the former may be about to go."""


class KeptMoments(NamedTuple):
    """What one call gave of one memory, as much as was held at once."""

    ops: tuple[int, ...]
    """The calls."""
    event: int
    """The event of arrays; NONE where they are tensors."""
    tensor: int
    """The last of the tensors; of arrays the one that it was made from."""
    source: int
    """A tensor on the memory that was written between two of them."""
    written: int
    """The last op that did."""


class _Kept(NamedTuple):
    op: int
    died: int
    tensor: int


def kept_moments(index: Index, sharing: StorageGroups, events: Events) -> list[KeptMoments]:
    """One for each call whose arrays or tensors were kept."""
    writes = _writes(index)
    by_call: list[tuple[int, list[_Kept]]] = [
        (event.row, list(_arrays(event)))
        for event in events.of(EventKind.ARRAYS)
        if event.span >= 0 and not _is_sliced(index, event)
    ]
    by_call += [(NONE, several) for several in _tensors(index, sharing)]
    found, writes = [], _writes(index) if by_call else {}
    for event, several in by_call:
        by_memory: dict[tuple[int, tuple[int, int]], list[_Kept]] = {}
        for one in several:
            memory = index.storage_at(one.tensor, one.op), sharing.range_of(one.tensor)
            by_memory.setdefault(memory, []).append(one)
        for (storage, span), kept in by_memory.items():
            written = [write for write in writes.get(storage, ()) if overlap(span, sharing.range_of(write[1]))]
            held = _held_at_once(kept, [op for op, _ in written])
            if held is not None:
                last, source = written[bisect_right(written, (held[-1].op, NONE)) - 1]
                found.append(KeptMoments(tuple(one.op for one in held), event, held[-1].tensor, source, last))
                break
    return found


def _tensors(index: Index, sharing: StorageGroups) -> Iterator[list[_Kept]]:
    """Tensors without a graph that calls at one place gave of memory that was there, and that were not written."""
    tensors, spans = index.recording.tensors, index.recording.ops.column("span")
    made_at, died, flags = (tensors.column(name) for name in ("op", "died", "flags"))

    def is_made(tensor: int) -> bool:
        op = made_at[tensor]
        return not flags[tensor] & EXTERNAL and op < index.op_count and index.op_statement[op] != NOWHERE

    # (what is found written when all is over was written through another one)
    written = {tensor for op, tensor, _, _ in all_writes(index) if made_at[tensor] != op < index.op_count}
    # What a call of the same statement took a view of lives as long as the view.
    bases = {(sharing.base_of(one), index.op_statement[made_at[one]]) for one in sharing.alias_row if is_made(one)}
    found: dict[int, list[_Kept]] = {}
    for tensor in sorted(sharing.alias_row):
        op = made_at[tensor]
        if not is_made(tensor) or flags[tensor] & REQUIRES_GRAD or (tensor, index.op_statement[op]) in bases:
            continue
        if tensor not in written and tensor not in index.moves:
            found.setdefault(spans[op], []).append(_Kept(op, died[tensor], tensor))
    yield from (several for several in found.values() if len(several) >= AT_LEAST)


def _is_sliced(index: Index, event: Happened) -> bool:
    """Whether parts of the arrays may be what is kept: a part keeps the whole array, and each may be another part."""
    span = index.recording.spans[event.span]
    first = next(_arrays(event), None)
    method = index.func(first.op).rpartition(".")[2] if first is not None else ""
    return is_sliced(index.recording.files[span.file].text, span.line, method)


def _arrays(event: Happened) -> Iterator[_Kept]:
    """The arrays of an event; none where a file that was changed by hand has others."""
    rows = event.detail.get("arrays", ())
    for row, tensor in zip(rows, event.tensors, strict=False):
        if isinstance(row, list) and len(row) == 2 and all(isinstance(number, int) for number in row):
            yield _Kept(row[0], row[1], tensor)


def _writes(index: Index) -> dict[int, list[tuple[int, int]]]:
    """For each memory block the writes by calls and steps: op and tensor."""
    found: dict[int, list[tuple[int, int]]] = {}
    kinds = index.recording.ops.column("kind")
    made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
    for op, tensor, _, _ in all_writes(index):
        is_born_here = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        if op < index.op_count and not is_born_here and kinds[op] not in (OpKind.BACKWARD, OpKind.GRAD):
            found.setdefault(index.storage_at(tensor, op), []).append((op, tensor))
    return found


def _held_at_once(kept: list[_Kept], written: list[int]) -> list[_Kept] | None:
    """What was held when the most moments were; None where it is of fewer than it takes."""
    if len({bisect_right(written, one.op) for one in kept}) < AT_LEAST:
        return None
    held: dict[int, _Kept] = {}
    most: list[_Kept] = []
    for one in kept:
        held = {at: other for at, other in held.items() if other.died == NONE or other.died > one.op}
        held[bisect_right(written, one.op)] = one
        if len(held) > len(most):
            most = list(held.values())
    return most if len(most) >= AT_LEAST else None
