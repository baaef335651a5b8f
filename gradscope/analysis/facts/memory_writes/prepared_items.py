"""Tensors that a program keeps as its data and prepares in place, each of them again in every round over them.

``target["boxes"] /= width`` in a transform: where the data set keeps what it gives out, the second epoch divides what
the first one had divided. Each item is a tensor of its own (a list of pairs, a dictionary), so that no view tells it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import called, maker
from gradscope.analysis.facts.memory_writes.preparing_writes import (
    UNDOES,
    is_drawn_mask,
    is_same_write,
    kind_of_write,
    meets_trained,
)
from gradscope.analysis.facts.memory_writes.stacked_writes import is_drawing
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import EXTERNAL, GRADIENT, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import EventKind, OpKind

_ITEMS = 2
"""Tensors that one line writes in turn, from which on they are items of data."""

_PREPARES = re.compile(
    r"__getitem__$|__call__$|augment|jitter|nois[ey]|corrupt|perturb|normali[sz]|standardi[sz]|scale|transform|prepro"
    r"|prepar|collate|whiten|mask_|_mask|load"
)
"""Functions that are to give a changed copy of what they are given."""

_STATES = re.compile(
    r"^_?step|update|decay|anneal|cool|reset|forget|fade|advance|evolve|mutate|simulat|friction|damp|move"
)
"""Functions that move a state on, which is meant to be there the next time."""

_FADES = (0.8, 1.0)
"""A number that a state may be multiplied by so that it fades."""

_ONE = re.compile(r"\((1(, ?1)*,?)?\)")
"""The shape of one number."""

_STEPS = 6
"""Calls from what is written back to what it was computed from."""


class PreparedItems(NamedTuple):
    """What the lines of one function did."""

    writes: tuple[int, ...]
    """One op for each statement, of the last time."""
    tensor: int
    """One of those that were written."""
    items: int
    """How many were written several times."""
    times: int
    """How often the one that was written most."""


_WHOLE = (0, -1)
"""The place of an item that has memory of its own."""


class _Call(NamedTuple):
    statement: int
    name: str


class _Item(NamedTuple):
    storage: int
    place: tuple[int, int]
    """Of a slice of what holds all items: its bytes."""


class _Write(NamedTuple):
    op: int
    tensor: int
    storage: int


def prepared_items(index: Index, sharing: StorageGroups, events: Events) -> Iterator[PreparedItems]:
    """One for each function that writes so into what goes into what is trained."""
    rounds = _CallsInTurn(index, sharing, events)
    by_function: dict[tuple[int, int], set[_Call]] = {}
    for call in rounds.again:
        where = index.statements[call.statement]
        by_function.setdefault((where.file, where.function), set()).add(call)
    for calls in by_function.values():
        found = rounds.of(calls)
        if found is not None:
            yield found


class _CallsInTurn:
    """The writes of every call in a statement, and which memory it comes back to after other memory."""

    def __init__(self, index: Index, sharing: StorageGroups, events: Events) -> None:
        self._index, self._sharing = index, sharing
        self._writes: dict[int, list[_Write]] = {}
        self._by_call: dict[_Call, list[_Write]] = {}
        on, made_at, flags = (index.recording.tensors.column(name) for name in ("storage", "op", "flags"))
        for op, tensor, _, _ in all_writes(index):
            write = _Write(op, tensor, on[tensor])
            is_born = op == made_at[tensor] and not flags[tensor] & EXTERNAL
            if write.storage >= 0 and op < index.op_count and not is_born:
                self._writes.setdefault(write.storage, []).append(write)
                self._by_call.setdefault(self._call(write), []).append(write)
        by_op = ((event.subject, event.detail.get("by")) for event in events.of(EventKind.FACTOR))
        self._numbers = {op: float(number) for op, number in by_op if isinstance(number, (int, float))}
        self._again: dict[_Call, dict[_Item, list[_Write]]] = {}
        for call, writes in self._by_call.items():
            visits = {key: found for key, found in self._visits(writes).items() if len(found) > 1}
            if call.statement != NOWHERE and len(visits) >= _ITEMS:
                self._again[call] = visits

    @property
    def again(self) -> Iterator[_Call]:
        """The calls that came back to several items."""
        return iter(self._again)

    def of(self, calls: set[_Call]) -> PreparedItems | None:
        """What the calls of one function did, if all of it prepares data again."""
        index = self._index
        written = sorted(set.union(*(set(self._again[call]) for call in calls)))
        are_data = {storage: self._is_data(storage) for storage in {item.storage for item in written}}
        are_prepared = {storage: is_data and self._is_prepared(storage, calls) for storage, is_data in are_data.items()}
        items = [item for item in written if are_prepared[item.storage]]
        if len(items) < _ITEMS or 2 * len(items) <= sum(are_data[item.storage] for item in written):
            return None
        visits = {call: [found[item] for item in items if item in found] for call, found in self._again.items()}
        last = {call: found[-1][-1] for call, found in visits.items() if call in calls and found}
        done = {one for write in last.values() for one in self._done(write)}
        if any(pair <= {called(index, op) for op in done} for pair in UNDOES):
            return None
        kinds = {kind_of_write(index, op) for op in done}
        are_slices = any(item.place != _WHOLE for item in items)
        if not self._is_meant_once(kinds, last) or not any(
            self._is_trained_with(one, are_slices) for one in last.values()
        ):
            return None
        told = sorted(write for write in last.values() if not self._settles(write))
        times = max(index.times(write.op for write in found) for call in last for found in visits[call])
        return PreparedItems(tuple(write.op for write in told), told[-1].tensor, len(items), times)

    def _is_data(self, storage: int) -> bool:
        """Whether a memory block holds what is neither trained nor a gradient, nor one number."""
        tensors = self._index.recording.tensors
        flags = tensors.column("flags")
        on = self._on(storage)
        layout = self._index.recording.layouts[tensors.column("layout")[on[0]]]
        is_other = any(flags[one] & (PARAMETER | GRADIENT | REQUIRES_GRAD) for one in on)
        return not is_other and _ONE.fullmatch(self._index.recording.text(layout.shape)) is None

    def _on(self, storage: int) -> list[int]:
        return self._sharing.tensors_on.get(storage) or sorted({write.tensor for write in self._writes[storage]})

    def _is_prepared(self, storage: int, calls: set[_Call]) -> bool:
        """Whether from the first of some calls on nothing else writes there, and each does what it did before."""
        index, kinds = self._index, self._index.recording.ops.column("kind")
        writes = self._writes[storage]
        first = next(number for number, write in enumerate(writes) if self._call(write) in calls)
        before: dict[tuple[_Call, object], _Write] = {}
        for write in writes[first:]:
            if self._call(write) not in calls or kinds[write.op] != OpKind.CALL:
                return False
            done = self._done(write)
            if not done or not all(kind_of_write(index, one) for one in done):
                return False
            place = (self._call(write), self._sharing.range_of(write.tensor))
            known = before.setdefault(place, write)
            if known is not write and not self._is_same(known, write):
                return False
        return True

    def _call(self, write: _Write) -> _Call:
        index = self._index
        return _Call(index.op_statement[write.op], index.func(write.op))

    def _settles(self, write: _Write) -> bool:
        return all(kind_of_write(self._index, one) == "settles" for one in self._done(write))

    def _is_same(self, before: _Write, now: _Write) -> bool:
        pairs = list(zip(self._done(before), self._done(now), strict=False))
        is_scaled = any(kind_of_write(self._index, one) == "factor" for one, _ in pairs)
        if len(pairs) != len(self._done(now)) or not all(
            is_same_write(self._index, *both, is_scaled) for both in pairs
        ):
            return False
        index = self._index
        changing = [op for _, op in pairs if kind_of_write(index, op) != "settles"]
        operands = [one for op in changing for one in list(index.uses.of(op))[1:] if not is_drawn_mask(index, one)]
        return not any(self._moves(one, before.op, now.op) or self._is_from(one, now.storage) for one in operands)

    def _is_from(self, operand: int, storage: int) -> bool:
        """Whether a tensor was computed from what is on a memory block: ``x / x.max()`` is the same the second time."""
        index, todo = self._index, {operand}
        for _ in range(_STEPS):
            if any(index.recording.tensors.column("storage")[one] == storage for one in todo):
                return True
            made = [op for one in todo if (op := maker(index, one)) >= 0 and not is_drawing(index, op)]
            todo = {used for op in made for used in index.uses.of(op)}
        return False

    def _moves(self, operand: int, since: int, op: int) -> bool:
        """Whether what is added, or a factor, is trained or was written since the time before."""
        index = self._index
        storage = index.storage_at(operand, op)
        flags = index.recording.tensors.column("flags")
        if flags[operand] & (PARAMETER | GRADIENT | REQUIRES_GRAD):
            return True
        if any(flags[one] & (PARAMETER | GRADIENT) for one in self._sharing.tensors_on.get(storage, ())):
            return True
        made = index.recording.tensors.column("op")[operand]
        return made < since and any(since < write.op < op for write in self._writes.get(storage, ()))

    def _done(self, write: _Write) -> list[int]:
        """The calls that made of what is there what is written there: the write itself, or those before a store."""
        index = self._index
        name, uses = called(index, write.op), list(index.uses.of(write.op))
        if name not in ("setitem", "copy") or len(uses) < 2 or kind_of_write(index, write.op):
            return [write.op]
        done: list[int] = []
        value = uses[-1]
        for _ in range(_STEPS):
            made = maker(index, value)
            if made < 0 or not index.uses.of(made):
                return []
            inner = (op for op in index.users.of(value) if made < op < write.op and index.func(op).endswith("_"))
            done += [op for op in inner if index.uses.of(op)[0] == value]
            if called(index, made) != "getitem":
                done.append(made)
            value = index.uses.of(made)[0]
            if index.storage_at(value, made) == write.storage:
                return done
        return []

    def _is_meant_once(self, kinds: set[str], last: dict[_Call, _Write]) -> bool:
        """Whether what is done is to be done to an item once, as far as the kinds of writes and the names tell."""
        if kinds.isdisjoint(("factor", "function", "tensor", "random")):
            return False
        index = self._index
        functions = [index.op_place(write.op).function.lower() for write in last.values()]
        numbers = {self._numbers[one.op] for call in last for one in self._by_call[call] if one.op in self._numbers}
        if numbers and numbers <= {0.0, 1.0} and kinds <= {"factor", "settles"}:
            return False
        if all(_PREPARES.search(name) for name in functions):
            return True
        fades = any(_FADES[0] <= number <= _FADES[1] for number in numbers)
        is_state = any(_STATES.search(name.rpartition(".")[2]) for name in functions)
        return not fades and not is_state and not kinds.isdisjoint(("factor", "function")) and "random" not in kinds

    def _is_trained_with(self, write: _Write, is_slice: bool) -> bool:
        written = [write.tensor] if is_slice else self._on(write.storage)
        return meets_trained(self._index, written, write.op + 1)

    def _visits(self, writes: list[_Write]) -> dict[_Item, list[_Write]]:
        """Of each item the writes of one call with which it came to it, from another one.

        Where all are on one memory block, its slices are the items, unless they overlap.
        """
        places = {write.tensor: _WHOLE for write in writes}
        if len({write.storage for write in writes}) == 1:
            places = {tensor: self._sharing.range_of(tensor) for tensor in places}
            ranges = sorted(set(places.values()))
            if any(overlap(*both) for both in pairwise(ranges)):
                return {}
        found: dict[_Item, list[_Write]] = {}
        at = None
        for write in writes:
            item = _Item(write.storage, places[write.tensor])
            if item != at:
                found.setdefault(item, []).append(write)
                at = item
        return found
