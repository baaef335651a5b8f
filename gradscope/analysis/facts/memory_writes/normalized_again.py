"""Stored data that a function normalises in place by its own mean and scale, and finds so the next time.

``x -= x.mean(); x /= x.std()`` changes nothing the second time, so that the writes alone do no harm. What was computed
on the way does: a mean that is kept to undo it all (``y * scale + mean``) is 0 from the second time on. And of windows
that overlap, each is normalised after a part of it was, with another.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import maker
from gradscope.analysis.facts.memory_writes.preparing_writes import kind_of_write, meets_trained
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import all_steps, all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL, GRADIENT, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import EventKind, OpKind

_STEPS = 8
"""Calls from what is subtracted back to what it was computed from."""
_PUTS = ("Tensor.__setitem__", "Tensor.index_put_", "Tensor.index_copy_")
_FOLLOWED = 48
"""Tensors that are looked at for one write."""


class NormalizedAgain(NamedTuple):
    """What the lines of one function did."""

    writes: tuple[int, ...]
    """One op for each statement, of the last time."""
    tensor: int
    """What the last of them wrote."""
    items: int
    """Places that were written several times, or in part with another one."""
    times: int
    """How often the one that was written most."""
    statistics: tuple[int, ...]
    """What was computed of it the last time, and used for something else, too; none where only places overlap."""


class _NormalizingWrite(NamedTuple):
    op: int
    tensor: int
    statistics: frozenset[int]
    """What is smaller than it, went into it and was computed from it."""
    calls: frozenset[int]
    """Those that computed what went into it."""


class _Place(NamedTuple):
    storage: int
    offset: int
    layout: int


def normalized_again(index: Index, sharing: StorageGroups, events: Events) -> Iterator[NormalizedAgain]:
    """One for each function whose writes are the only ones there."""
    steps, outside = all_steps(index), {event.subject for event in events.of(EventKind.MEMORY_CHANGED)}
    by_function: dict[tuple[int, int], dict[int, list[_NormalizingWrite]]] = {}
    for storage, writes in _by_storage(index, sharing).items():
        if storage in outside:
            continue
        found = [_NormalizingWrite(op, tensor, *_statistics(index, op, tensor)) for op, tensor in writes]
        first = next((number for number, one in enumerate(found) if one.statistics), len(found))
        functions = {index.function_of(one.op) for one in found[first:]}
        are_all = all(one.statistics or kind_of_write(index, one.op) == "settles" for one in found[first:])
        if len(functions) == 1 and are_all:
            by_function.setdefault(functions.pop(), {})[storage] = found[first:]
    for by_storage in by_function.values():
        yield from _of_function(index, sharing, steps, by_storage)


def _of_function(
    index: Index, sharing: StorageGroups, steps: list[int], by_storage: dict[int, list[_NormalizingWrite]]
) -> Iterator[NormalizedAgain]:
    """What one function did to all memory that it writes, if that is data on which something is trained."""
    again: dict[_Place, list[_NormalizingWrite]] = {}
    crossed: set[_Place] = set()
    for storage, writes in by_storage.items():
        by_place = _by_place(index, sharing, storage, writes)
        again.update({place: found for place, found in by_place.items() if _is_again(index, steps, found)})
        crossed |= _crossed(index, sharing, by_place)
        again.update({place: by_place[place] for place in crossed if place in by_place})
    told = [one for writes in again.values() for one in writes if one.statistics]
    if not told:
        return
    written = {one.op for writes in by_storage.values() for one in writes}
    used = _used_elsewhere(index, told, written.union(*(one.calls for one in told)))
    last = {index.op_statement[one.op]: one for one in sorted(told, key=lambda write: write.op)}
    at = max(last.values(), key=lambda write: write.op)
    # (windows that a loop gives are views of their own: what is read later is what they are views of)
    read = {one for place in crossed for one in sharing.tensors_on.get(place.storage, ())}
    is_trained = crossed and meets_trained(index, [*sorted(read, reverse=True), at.tensor], at.op + 1)
    if not used and not is_trained:
        return
    times = max(_times(index, writes) for writes in again.values())
    yield NormalizedAgain(tuple(sorted(one.op for one in last.values())), at.tensor, len(again), times, used)


def _by_storage(index: Index, sharing: StorageGroups) -> dict[int, list[tuple[int, int]]]:
    """The writes to each memory block that holds neither what is trained nor gradients, all by calls that are seen."""
    tensors, kinds = index.recording.tensors, index.recording.ops.column("kind")
    made_at, flags = tensors.column("op"), tensors.column("flags")
    found: dict[int, list[tuple[int, int]]] = {}
    others = set[int]()
    for op, tensor, _, _ in all_writes(index):
        is_born = op == made_at[tensor] and not flags[tensor] & EXTERNAL
        storage = index.storage_at(tensor, op)
        if is_born or storage < 0 or op >= index.op_count:  # (the end finds what the calls on other views wrote)
            continue
        is_call = kinds[op] == OpKind.CALL and index.op_statement[op] != NOWHERE
        if not is_call or any(flags[one] & _TRAINED for one in sharing.tensors_on.get(storage, (tensor,))):
            others.add(storage)
        else:
            through = index.uses.of(op)[0] if index.uses.of(op) else tensor
            if tensor == through:  # (of views with one version counter, each has the write)
                found.setdefault(storage, []).append((op, tensor))
    return {storage: writes for storage, writes in found.items() if storage not in others and len(writes) > 1}


_TRAINED = PARAMETER | GRADIENT | REQUIRES_GRAD
_PASSES = (OpKind.BACKWARD, OpKind.GRAD)


def _statistics(index: Index, op: int, tensor: int) -> tuple[frozenset[int], frozenset[int]]:
    """What a write takes that was computed from the memory that it writes, and is smaller; and the calls on the way."""
    storage = index.storage_at(tensor, op)
    nbytes, layout = index.recording.layouts.column("nbytes"), index.recording.tensors.column("layout")
    # (of an item that is put there it is the item: ``memory[nodes] = cell(memory[nodes])`` is no normalisation)
    written = index.uses.of(op)[-1] if index.method(op) in _PUTS and index.uses.of(op) else tensor
    size, found, calls = min(nbytes[layout[tensor]], nbytes[layout[written]]), set[int](), set[int]()
    known: dict[int, bool] = {}
    flags, kinds = index.recording.tensors.column("flags"), index.recording.ops.column("kind")

    def is_from(one: int, steps: int) -> bool:
        if one not in known:
            known[one] = False
            known[one] = is_made_from(one, steps)
        return known[one]

    def is_made_from(one: int, steps: int) -> bool:
        if index.storage_at(one, op) == storage:
            return True
        made = maker(index, one)
        if made < 0 or not steps or len(known) > _FOLLOWED:
            return False
        if flags[one] & GRADIENT or kinds[made] in _PASSES:  # (what a step by hand takes off)
            return False
        comes = [is_from(used, steps - 1) for used in index.uses.of(made)]
        if any(comes):
            calls.add(made)
            if nbytes[layout[one]] < size:
                found.add(one)
        return any(comes)

    for one in index.uses.of(op)[1:]:
        is_from(one, _STEPS)
    return frozenset(found), frozenset(calls)


def _by_place(
    index: Index, sharing: StorageGroups, storage: int, writes: Iterable[_NormalizingWrite]
) -> dict[_Place, list[_NormalizingWrite]]:
    layout = index.recording.tensors.column("layout")
    found: dict[_Place, list[_NormalizingWrite]] = {}
    for one in writes:
        place = _Place(storage, sharing.offset_of(one.tensor), layout[one.tensor])
        found.setdefault(place, []).append(one)
    return found


def _times(index: Index, writes: Iterable[_NormalizingWrite]) -> int:
    """How often the call was made that wrote most often."""
    by_call: dict[tuple[int, str], list[int]] = {}
    for one in writes:
        by_call.setdefault((index.op_statement[one.op], index.func(one.op)), []).append(one.op)
    return max(index.times(ops) for ops in by_call.values())


def _is_again(index: Index, steps: list[int], writes: list[_NormalizingWrite]) -> bool:
    """Whether one statement wrote a place twice, with a step of an optimizer between."""
    first: dict[int, int] = {}
    for one in writes:
        since = first.setdefault(index.op_statement[one.op], one.op)
        if bisect_left(steps, since) < bisect_left(steps, one.op):
            return True
    return False


def _crossed(index: Index, sharing: StorageGroups, by_place: dict[_Place, list[_NormalizingWrite]]) -> set[_Place]:
    """Places without gaps in them that share some of their bytes with another one."""
    dense = []
    for place, writes in by_place.items():
        begin, end = sharing.range_of(writes[0].tensor)
        if end - begin == index.recording.layouts.column("nbytes")[place.layout]:
            dense.append((begin, end, place))
    dense.sort()
    return {place for one, other in pairwise(dense) if overlap(one[:2], other[:2]) for place in (one[2], other[2])}


def _used_elsewhere(index: Index, told: Iterable[_NormalizingWrite], inner: set[int]) -> tuple[int, ...]:
    """Of the last statistics those that went into what is trained by another way than what was written."""
    last: dict[tuple[int, int], int] = {}
    spans = index.recording.ops.column("span")
    for one in sorted(told, key=lambda write: write.op):
        for each in sorted(one.statistics):
            made = maker(index, each)
            others = [op for op in index.users.of(each) if op not in inner]
            if any(_is_trained_by(index, op) for op in others):
                last[spans[made], index.places_in_call[each]] = each
    return tuple(last.values())


def _is_trained_by(index: Index, op: int) -> bool:
    uses = index.uses.of(op)
    return any(index.requires_grad(one, op) for one in uses) or meets_trained(index, index.tensors_made(op), op + 1)
