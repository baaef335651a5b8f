"""Arrays that are prepared in place through a tensor on them, again each time that a tensor is put on them.

``torch.from_numpy(self.images[i])`` shares the array's memory: ``sub_(mean).div_(std)`` on it changes the data set, and
in the next epoch what was normalised is normalised again. That the bytes were as the last time left them was seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.analysis.facts.losses.factors import called
from gradscope.analysis.facts.memory_writes.preparing_writes import (
    UNDOES,
    is_same_write,
    kind_of_write,
    meets_trained,
)
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind


class RewrappedWrites(NamedTuple):
    """The writes of one place at which tensors are put on arrays."""

    writes: tuple[int, ...]
    """One op for each statement, of the last time."""
    span: int
    """Where the tensors are put on the arrays."""
    tensor: int
    times: int
    """How often in a row the same memory was written so."""
    row: int
    """Of ``events``."""


def rewrapped_writes(index: Index, events: Events) -> Iterator[RewrappedWrites]:
    """One for each place, where what is prepared so goes into what is trained."""
    by_place: dict[int, dict[tuple[int, ...], list[Happened]]] = {}
    for event in events.of(EventKind.WRITTEN_AGAIN):
        span = event.span if event.span >= 0 else _span(index, event.detail.get("op"))
        before = tuple(op for op in event.detail.get("before", ()) if isinstance(op, int) and 0 <= op < index.op_count)
        if 0 <= event.subject < index.op_count and event.tensors and span >= 0:
            by_place.setdefault(span, {}).setdefault(before, []).append(event)
    for span, rounds in by_place.items():
        again = [now for before, now in rounds.items() if _is_again(index, before, [one.subject for one in now])]
        last = (now[-1] for now in reversed(again))
        used = next((one for one in last if meets_trained(index, one.tensors[:1], one.subject)), None)
        if used is not None:
            writes = {index.op_statement[one.subject]: one.subject for now in again for one in now}
            times = max(int(now[-1].detail.get("times", 0)) for now in again)
            yield RewrappedWrites(tuple(writes.values()), span, used.tensors[0], times, used.row)


def _span(index: Index, op: object) -> int:
    return index.recording.ops.column("span")[op] if isinstance(op, int) and 0 <= op < index.op_count else -1


def _is_again(index: Index, before: tuple[int, ...], now: list[int]) -> bool:
    """Whether the writes through one tensor are those through the one before, and such as prepare data."""
    names = {called(index, op) for op in before}
    if len(before) != len(now) or any(pair <= names for pair in UNDOES):
        return False
    kinds = {kind_of_write(index, op) for op in before}
    if "" in kinds or kinds.isdisjoint(("factor", "function", "tensor", "random")):
        return False
    return all(is_same_write(index, *both, "factor" in kinds) for both in zip(before, now, strict=True))
