"""Tensors that were made one after another from one NumPy array, are kept, and have the last of its values each.

Each has a storage of its own, and all storages the same address: at one time that is one memory. That the array was
written in between shows where its bytes were looked at. Where the tensors were first seen in use, that they were joined
shows that they were taken for several.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterator
from heapq import heappop, heappush
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.memory.keepers import Keeper, keeper
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.names.arrays_given_away import GivenAway, given_away
from gradscope.frames.names.shared_arrays import SharingCall, gives_written_memory, sharing_calls
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
    shared_by: tuple[int, SharingCall] | None = None
    """By file: the call that put them there, where no call was seen, nor what keeps them."""

    def given(self, index: Index) -> tuple[int, list[GivenAway]]:
        """By file: where functions give away the array, and write it; none where the text does not tell."""
        if self.shared_by is not None:
            file, calls = self.shared_by[0], [self.shared_by[1]]
        else:
            if self.kept_by is not None:
                file, first, last = self.kept_by.file, self.kept_by.put.line, self.kept_by.put.end_line
            else:
                made = index.statements[index.op_statement[self.op]]
                file, first, last = made.file, made.line, made.end_line
            calls = [one for one in sharing_calls(index.recording.files[file].text) if first <= one.line <= last]
        text = index.recording.files[file].text
        return file, given_away(text, calls[0]) if len(calls) == 1 else []


def kept_of_arrays(index: Index, events: Events, names: dict[int, list[tuple[int, int, int]]]) -> Iterator[KeptOfArray]:
    """One for each array, or each call that made tensors of it."""
    changed = {event.subject: event.row for event in events.of(EventKind.MEMORY_CHANGED)}
    by_address = _there_at_once(index, changed)
    on, made_at, flags = (index.recording.tensors.column(name) for name in ("storage", "op", "flags"))
    told: set[SharingCall] = set()
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
        if len(unseen) < AT_LEAST:
            continue
        rows = [changed[on[tensor]] for tensor in unseen if on[tensor] in changed]
        kept_by = keeper(index, unseen, names) if _are_joined(index, unseen) else None
        if kept_by is not None and _SHARES.search(_source(index, kept_by)):
            yield KeptOfArray(tuple(unseen), NONE, kept_by, NONE)
        elif len(rows) >= AT_LEAST - 1 or _outlive_their_joining(index, unseen):
            shared_by = _only_sharing(index, is_written=len(rows) < AT_LEAST - 1)
            if shared_by is not None and shared_by[1] not in told:
                told.add(shared_by[1])
                yield KeptOfArray(tuple(unseen), NONE, None, rows[-1] if rows else NONE, shared_by)


def _are_joined(index: Index, tensors: list[int]) -> bool:
    """Whether one call took several of them, as rows of one result."""
    return any(True for _ in _joined(index, tensors))


def _joined(index: Index, tensors: list[int]) -> Iterator[int]:
    """Calls that took several of them, and none that is on memory of its own.

    One array several times beside others fills up a batch.
    """
    on, address = index.recording.tensors.column("storage"), index.recording.storages.column("data_ptr")
    calls = Counter(op for tensor in tensors for op in index.users.of(tensor))
    for op, taken in calls.items():
        if taken >= AT_LEAST and _JOINS.fullmatch(index.func(op)):
            times = Counter(address[on[one]] for one in index.uses.of(op) if on[one] >= 0)
            if min(times.values()) >= AT_LEAST:
                yield op


def _outlive_their_joining(index: Index, tensors: list[int]) -> bool:
    """Whether they were kept for more than to be joined: a list that goes then may repeat one value."""
    died = index.recording.tensors.column("died")
    return any(all(died[one] == NONE or died[one] > op + 2 for one in tensors) for op in _joined(index, tensors))


def _only_sharing(index: Index, *, is_written: bool) -> tuple[int, SharingCall] | None:
    """The only call of the program that puts a tensor on the memory of an array; None where there are others.

    Args:
        index: The recording.
        is_written: Only where the program's text writes into the memory of arrays that it gives away.
    """
    users = [(number, file.text) for number, file in enumerate(index.recording.files) if file.is_user]
    calls = [(number, call) for number, text in users for call in sharing_calls(text)]
    if len(calls) != 1 or (is_written and not any(gives_written_memory(text, calls[0][1]) for _, text in users)):
        return None
    return calls[0]


def _source(index: Index, kept_by: Keeper) -> str:
    return index.recording.source(kept_by.file, kept_by.put.line, kept_by.put.end_line)


def _there_at_once(index: Index, changed: Container[int]) -> dict[tuple[int, int], list[int]]:
    """By address and layout: the first tensors of storages that were there together, where they are several.

    Of those that are gone only what others than torch made, or were seen to change, is known to be of an array.
    """
    storages, tensors = index.recording.storages, index.recording.tensors
    columns = (storages.column(name) for name in ("data_ptr", "nbytes", "op", "died", "external"))
    rows: dict[int, list[tuple[int, int]]] = {}
    for storage, (pointer, nbytes, first, died, external) in enumerate(zip(*columns, strict=True)):
        # (what is freed within an op and what has its address next seem to be there together for a moment)
        stays = died == NONE or ((external or storage in changed) and died > first + 2)
        if pointer and nbytes and stays:
            rows.setdefault(pointer, []).append((storage, first))
    together = {one for several in rows.values() if len(several) >= AT_LEAST for one in _most(index, several)}
    if not together:
        return {}
    found: dict[tuple[int, int], list[int]] = {}
    address = storages.column("data_ptr")
    for tensor, (storage, layout) in enumerate(zip(tensors.column("storage"), tensors.column("layout"), strict=True)):
        if storage in together:
            together.discard(storage)
            found.setdefault((address[storage], layout), []).append(tensor)
    return {key: several for key, several in found.items() if len(several) >= AT_LEAST}


def _most(index: Index, storages: list[tuple[int, int]]) -> list[int]:
    """Of storages of one address, with the ops at which they were first seen: those there when the most were."""
    died = index.recording.storages.column("died")
    ends: list[int] = []
    most = staying = moment = 0
    for storage, first in storages:
        while ends and ends[0] <= first + 1:
            heappop(ends)
        if died[storage] == NONE:
            staying += 1
        else:
            heappush(ends, died[storage])
        if len(ends) + staying > most:
            most, moment = len(ends) + staying, first
    if most < AT_LEAST:
        return []
    return [one for one, first in storages if first <= moment and not 0 <= died[one] <= moment + 1]
