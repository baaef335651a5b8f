"""Tensors that were made one after another from one NumPy array, are kept, and have the last of its values each.

Each has a storage of its own, and all storages the same address: at one time that is one memory. That the array was
written in between shows where its bytes were looked at. Where the tensors were first seen in use, that they were joined
shows that they were taken for several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.keepers import Keeper, keeper
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import EventKind

AT_LEAST = 3
"""Tensors of one array that are there at once, from which on they are kept."""
_JOINS = re.compile(r"torch\.(stack|cat|concat|concatenate|vstack|hstack)")
_SHARES = re.compile(r"\b(from_numpy|as_tensor|asarray|frombuffer)\(")


class KeptOfArray(NamedTuple):
    """Tensors on the memory of one array."""

    tensors: tuple[int, ...]
    op: int
    """The last call that made one; NONE where no call was seen."""
    kept_by: Keeper | None
    """What puts them where they stay; known where no call was seen."""
    event: int
    """The last event that shows that the memory was changed in between; NONE where none does."""


def kept_of_arrays(index: Index, events: Events, names: dict[int, list[tuple[int, int, int]]]) -> Iterator[KeptOfArray]:
    """One for each array, or each call that made tensors of it."""
    by_address = _there_at_once(index)
    changed: dict[int, int] = {}
    for event in events.of(EventKind.MEMORY_CHANGED) if by_address else ():
        changed[event.subject] = event.row
    on, made_at, flags = (index.recording.tensors.column(name) for name in ("storage", "op", "flags"))
    for several in by_address.values():
        by_call: dict[int, list[int]] = {}
        unseen = [tensor for tensor in several if flags[tensor] & EXTERNAL]
        for tensor in several:
            op = made_at[tensor]
            if not flags[tensor] & EXTERNAL and op < index.op_count and index.op_statement[op] != NOWHERE:
                by_call.setdefault(index.recording.ops.column("span")[op], []).append(tensor)
        for made in by_call.values():
            rows = [changed[on[tensor]] for tensor in made if on[tensor] in changed]
            if len(made) >= AT_LEAST and len(rows) >= AT_LEAST - 1:
                yield KeptOfArray(tuple(made), made_at[made[-1]], None, rows[-1])
        if len(unseen) >= AT_LEAST and _are_joined(index, unseen):
            kept_by = keeper(index, unseen, names)
            if kept_by is not None and _SHARES.search(_source(index, kept_by)):
                yield KeptOfArray(tuple(unseen), NONE, kept_by, NONE)


def _are_joined(index: Index, tensors: list[int]) -> bool:
    """Whether one call took several of them, as rows of one result."""
    calls = Counter(op for tensor in tensors for op in index.users.of(tensor))
    return any(times >= AT_LEAST and _JOINS.fullmatch(index.func(op)) for op, times in calls.items())


def _source(index: Index, kept_by: Keeper) -> str:
    return index.recording.source(kept_by.file, kept_by.put.line, kept_by.put.end_line)


def _there_at_once(index: Index) -> dict[tuple[int, int], list[int]]:
    """By address and layout: the first tensors of storages that are there together, where they are several."""
    storages, tensors = index.recording.storages, index.recording.tensors
    address, size, died = (storages.column(name) for name in ("data_ptr", "nbytes", "died"))
    counts: dict[int, int] = {}
    for pointer, nbytes, gone in zip(address, size, died, strict=True):
        if gone == NONE and pointer and nbytes:
            counts[pointer] = counts.get(pointer, 0) + 1
    if max(counts.values(), default=0) < AT_LEAST:
        return {}
    found: dict[tuple[int, int], list[int]] = {}
    seen: set[int] = set()
    for tensor, (storage, layout) in enumerate(zip(tensors.column("storage"), tensors.column("layout"), strict=True)):
        if storage < 0 or storage in seen or counts.get(address[storage], 0) < AT_LEAST:
            continue
        seen.add(storage)
        if died[storage] == NONE:
            found.setdefault((address[storage], layout), []).append(tensor)
    return {key: several for key, several in found.items() if len(several) >= AT_LEAST}
