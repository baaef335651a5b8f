"""Memory in use over the run, by the line that allocated it: what a stacked picture of it shows.

A picture has so many columns as fit; each stands for a stretch of calls, and has what was in use at the fullest one.
"""

from __future__ import annotations

from array import array
from collections import Counter
from itertools import accumulate
from typing import NamedTuple

from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place

COLUMNS = 800
SERIES = 7
"""Lines that are shown each by itself; the others are summed up."""


class _Block(NamedTuple):
    """A memory block: its statement, its first call, the one after its last, and its size."""

    statement: int
    first: int
    end: int
    nbytes: int


class MemorySeries(NamedTuple):
    """What the memory blocks of one line took."""

    place: Place | None
    """None: of all lines that are not shown by themselves, and of what was there before it was seen."""
    nbytes: tuple[int, ...]
    """In each column."""


class MemoryTimeline(NamedTuple):
    """Memory in use, column by column."""

    ops: tuple[int, ...]
    """The call of each column; the number of calls stands for the end of the run."""
    places: tuple[Place, ...]
    """The line of that call."""
    total: tuple[int, ...]
    """All that was in use, in bytes."""
    series: tuple[MemorySeries, ...]
    """The most in use at the peak first, the sum of the others last; together they are the total."""


def memory_timeline(index: Index, use: MemoryUse) -> MemoryTimeline:
    """The timeline of a recording."""
    live = use.live
    if not any(live):
        return MemoryTimeline((), (), (), ())
    ops, blocks = _columns(live), _blocks(index)
    peak = max(ops, key=live.__getitem__)
    series = []
    for statement in _largest_at(blocks, peak):
        own = _live_of(blocks, statement, index.op_count)
        series.append(MemorySeries(index.place(statement), tuple(map(own.__getitem__, ops))))
    total = tuple(live[op] for op in ops)
    rest = tuple(whole - sum(parts) for whole, *parts in zip(total, *(one.nbytes for one in series), strict=True))
    if any(rest):
        series.append(MemorySeries(None, rest))
    return MemoryTimeline(tuple(ops), tuple(map(index.op_place, ops)), total, tuple(series))


def _columns(live: array[int]) -> list[int]:
    """The fullest call of each stretch."""
    step = -(-len(live) // COLUMNS)
    stretches = (range(start, min(start + step, len(live))) for start in range(0, len(live), max(1, step)))
    return [max(stretch, key=live.__getitem__) for stretch in stretches]


def _largest_at(blocks: list[_Block], op: int) -> list[int]:
    """The statements whose memory blocks took most at a call, among those that are the user's."""
    taken: Counter[int] = Counter()
    for statement, first, end, nbytes in blocks:
        if statement != NOWHERE and first <= op < end:
            taken[statement] += nbytes
    return [statement for statement, _ in taken.most_common(SERIES)]


def _live_of(blocks: list[_Block], wanted: int, count: int) -> array[int]:
    """In use after each call, of the blocks of one statement."""
    delta = array("q", bytes(8 * (count + 1)))
    for statement, first, end, nbytes in blocks:
        if statement == wanted:
            delta[first] += nbytes
            if end <= count:
                delta[end] -= nbytes
    return array("q", accumulate(delta))


def _blocks(index: Index) -> list[_Block]:
    count, storages = index.op_count, index.recording.storages
    columns = (storages.column(name) for name in ("op", "nbytes", "died", "data_ptr", "external"))
    return [
        _Block(
            index.op_statement[op] if op < count and not external else NOWHERE,
            min(op, count),
            min(died, count) if died >= 0 else count + 1,
            nbytes,
        )
        for op, nbytes, died, address, external in zip(*columns, strict=True)
        if address
    ]
