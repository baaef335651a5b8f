"""Memory that was changed while a node had saved it, though no call of torch that was seen wrote it: by numpy."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import all_writes, possible_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED
from gradscope.recording.rows import EventKind


class OutsideWrite(NamedTuple):
    """Memory with other bytes than at the look before, and the pass that computed with them."""

    tensor: int
    """One that was seen on it."""
    after: int
    """The op at which it had its former bytes."""
    saved_row: int
    backward_op: int


class OutsideWrites:
    """Finds what a backward pass computed from bytes that were changed outside torch's functions."""

    def __init__(self, index: Index, passes: Passes, sharing: StorageGroups, events: Events) -> None:
        self._index = index
        self._passes = passes
        self._sharing = sharing
        self._events = events

    @cached_property
    def found(self) -> list[OutsideWrite]:
        """One for each change that a backward pass used, in the order of the run."""
        return [write for event in self._events.of(EventKind.MEMORY_CHANGED) for write in self.of(event)]

    def is_unseen(self, event: Happened) -> bool:
        """Whether memory was changed by no call that was seen, nor by one that was noticed only when all was over."""
        since = event.detail.get("since")
        written = self._written.get(event.subject, [])
        at = bisect_left(written, since) if type(since) is int else 0
        return at == len(written) or not (written[at] < event.op or written[-1] >= self._index.op_count)

    def of(self, event: Happened) -> Iterator[OutsideWrite]:
        """What a change of memory was to a pass, if it was anything."""
        since, after = event.detail.get("since"), event.detail.get("after")
        if type(since) is not int or type(after) is not int or not event.tensors or not self.is_unseen(event):
            return
        changed = _stretches(event.detail.get("bytes"))
        saved, nodes = self._index.recording.saved, self._index.recording.nodes.column("op")
        for row in self._saved_on.get(event.subject, ()):
            node = saved.column("node")[row]
            walked = self._walked_from(node, event.op) if nodes[node] < since else NONE
            if walked >= 0 and any(overlap(self._range_of(row), one) for one in changed):
                yield OutsideWrite(event.tensors[0], after, row, walked)
                return

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """For each storage the ops that wrote it, or may have, in order."""
        ops: dict[int, list[int]] = {}
        by_call = [(op, tensor) for op, tensor, _, _ in all_writes(self._index)]
        for op, tensor in sorted([*by_call, *possible_writes(self._index)]):
            ops.setdefault(self._index.storage_at(tensor, op), []).append(op)
        return ops

    @cached_property
    def _saved_on(self) -> dict[int, list[int]]:
        """Rows of ``saved`` by the storage that is kept."""
        rows: dict[int, list[int]] = {}
        for row, storage in enumerate(self._index.recording.saved.column("storage")):
            rows.setdefault(storage, []).append(row)
        return rows

    def _walked_from(self, node: int, op: int) -> int:
        """The pass (an op), from one on, that came through a node first and did not raise; NONE for none."""
        passes = self._passes
        walks = (passes.first_walked_at[node], passes.used_up_at[node], passes.last_walked_at[node])
        if 0 <= passes.used_up_at[node] < op:
            return NONE
        walked = next((walked for walked in walks if walked >= op), NONE)
        return NONE if walked >= 0 and self._index.recording.ops.column("flags")[walked] & RAISED else walked

    def _range_of(self, row: int) -> tuple[int, int]:
        """The bytes of its block that a saved tensor takes up; none where that is not known, or they lie apart."""
        saved = self._index.recording.saved[row]
        if saved.tensor >= 0:
            begin, end = self._sharing.range_of(saved.tensor)
            return (begin, end) if end - begin == saved.nbytes else (0, 0)
        whole = self._index.recording.storages.column("nbytes")[saved.storage]
        return (0, whole) if saved.nbytes == whole else (0, 0)


def _stretches(detail: object) -> list[tuple[int, int]]:
    """Stretches of bytes as an event names them; a file that was changed by hand may hold anything."""
    rows = detail if isinstance(detail, list) else []
    pairs = [row for row in rows if isinstance(row, list) and len(row) == 2]
    return [(first, end) for first, end in pairs if type(first) is type(end) is int]
