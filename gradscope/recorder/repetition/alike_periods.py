"""Where a recording ends in periods that are alike, and which of them.

Ops are alike that call the same function at the same place under the same modes; periods of such ops are alike where
every row that belongs to them says the same. An id in a row says the same if it is the same row from before, or the row
in the same place of the other period. Not compared are addresses, and how far a version counter has come. Periods
whose graph goes on with that of the one before are not alike.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from ctypes import string_at
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from gradscope.recorder.state.moves import AFTER, numbers
from gradscope.recording import Recording
from gradscope.recording.column_marks import ByKind, RowOf
from gradscope.recording.flags import COLLECTIVE_OP
from gradscope.recording.rows import Field
from gradscope.recording.tables import NONE

TABLES = {
    "tensors": "op",
    "storages": "op",
    "nodes": "op",
    "edges": "node",
    "saved": "node",
    "aliases": "tensor",
    "uses": "op",
    "results": "op",
    "changes": "op",
    "gradients": "op",
    "backwards": "op",
    "errors": "op",
    "values": "op",
    "fingerprints": "op",
    "watches": "op",
    "memory": "op",
    "events": "op",
    "event_tensors": "event",
    "module_ops": "op",
    "modules": "op",
    "module_tensors": "module",
}
"""Tables whose rows belong to ops, and the column by which; those that another's rows belong to come before it."""

_IGNORED = frozenset((("storages", "data_ptr"), ("aliases", "offset"), ("tensors", "died"), ("storages", "died")))
"""Columns in which periods that are alike may differ: addresses, which part of a batch it was. (When something died is
compared by itself.)"""

LEAST = 6
"""Pairs of periods in a row that are alike, of which some can be taken out: one is before the gap, others after it."""

_DISTANCES = 64
"""Distances that are looked at: a loop in which every tenth iteration does more comes again after ten of them."""

_SHORT = 8
_PATTERNS = ((256, 2), (_SHORT, 4))
"""Ops that are looked for again, and the distances of which the periods are compared row by row: so many ops as come
again in the next epoch only, where each iteration has a batch of its own; and so few as do in the next iteration."""

_BYTES = 8
_VERSION = int(Field.VERSION)
_PARTNERS = {"before": "after", "after": "before"}
"""Columns of a change."""
_OP_COLUMNS = ("func", "kind", "span", "inner", "thread", "flags", "calls")
_PRIME = 1_000_003
_MIXED = 0x9E3779B97F4A7C15 - (1 << 64)
"""An odd number of 64 bits: products with small numbers that differ are far apart."""


class AlikePeriods(NamedTuple):
    """Periods that are alike, the first of which has one before it that is like it as well."""

    first_op: int
    """Of the first of these periods."""
    ops: int
    """Of one period."""
    periods: int
    rows: dict[str, tuple[int, int]]
    """By table: the first row of the first of these periods, and the rows of one."""


def alike_periods(recording: Recording, window: int, hint: int, worth: int) -> list[AlikePeriods]:
    """Stretches of periods that are alike, among the last ops; the last stretch first.

    Args:
        recording: All that was recorded, nothing pending.
        window: So many ops are looked at.
        hint: The ops of a period that was found before, or 0.
        worth: Ops of a stretch that are worth its comparison, and that all rows after it are moved. (A loop that calls
            one function now ten, now thirty times is a thousand stretches.)
    """
    first = max(0, len(recording.ops) - window)
    if COLLECTIVE_OP in recording.ops.column("kind")[first:]:
        return []  # their order is compared with that of other processes, which may have been looked at elsewhere
    keys, order = _keys(recording, first), _RowOrder(recording, first, worth)
    known = {hint}
    if hint and (found := _stretches(order, keys, hint)):
        return _of_longer_periods(order, keys, found)
    for length, compared_at_most in _PATTERNS:
        best, most, compared = list[AlikePeriods](), 0, 0
        told_apart = keys if length == _SHORT else _keys_with_old(recording, keys)
        for ops in _distances(told_apart, length):
            if ops in known or not _is_equal_at_end(keys, ops):
                continue
            known.add(ops)
            found = _stretches(order, keys, ops)
            gone = _ops_of(found)
            if gone > most:
                best, most = found, gone
            compared += 1
            if 2 * gone > len(keys) or compared == compared_at_most:
                break
        if best:
            return _of_longer_periods(order, keys, best)
    return []


def _of_longer_periods(order: _RowOrder, keys: Tensor, found: list[AlikePeriods]) -> list[AlikePeriods]:
    """The stretches of as many periods as lie between two of them, where more is taken out so, else the same.

    Where every fifth epoch keeps a loss and is like none of the four, five epochs are like the five before.
    """
    longer = _stretches(order, keys, ops) if (ops := regular_distance(found)) else []
    return longer if _ops_of(longer) > _ops_of(found) else found


def regular_distance(found: list[AlikePeriods]) -> int:
    """How many ops lie between the beginnings of stretches, where it is the same several times; else 0."""
    starts = [one.first_op for one in found]
    for ops, times in Counter(later - earlier for later, earlier in pairwise(starts)).most_common(1):
        return ops if times > 1 else 0
    return 0


def _ops_of(found: list[AlikePeriods]) -> int:
    """The ops that are taken out with them."""
    return sum(one.periods * one.ops for one in found)


def _stretches(order: _RowOrder, keys: Tensor, ops: int) -> list[AlikePeriods]:
    """Those among the periods of so many ops, the last first; what differs once now and then lies between them."""
    return [
        found
        for begin, periods in _equal_stretches(keys, ops, order.worth)
        for found in _Compared(order, order.first_op + begin, ops, periods).stretches()
    ]


def _keys(recording: Recording, first: int) -> Tensor:
    """One number an op, by which ops are told apart: what ran where."""
    keys = torch.zeros(len(recording.ops) - first, dtype=torch.int64, device="cpu")
    for name in _OP_COLUMNS:
        keys = keys * _PRIME + numbers(recording.ops.column(name), first)
    return keys


def _keys_with_old(recording: Recording, keys: Tensor) -> Tensor:
    """The same with what each op took that had been there before the later half of them.

    An op that takes another batch each time is not alike in each iteration of a loop, but in each epoch.
    """
    first, uses = len(recording.ops) - len(keys), recording.uses
    half = bisect_left(recording.tensors.column("op"), first + len(keys) // 2)
    since = bisect_left(uses.column("op"), first)
    ops, taken = (numbers(uses.column(name), since) for name in ("op", "tensor"))
    is_old = (ops >= first) & (taken < half)
    return keys.index_add(0, ops[is_old] - first, (taken[is_old] + 1) * _MIXED)


def _distances(keys: Tensor, length: int) -> Iterator[int]:
    """How far before the end the last ops, of which there are so many, were seen before: the nearest first."""
    content = string_at(keys.data_ptr(), len(keys) * _BYTES)
    end = at = len(content) - length * _BYTES
    pattern = content[end:]
    for _ in range(_DISTANCES):
        at = content.rfind(pattern, 0, at + len(pattern) - 1) if at > 0 else -1
        if at < 0:
            return
        distance, rest = divmod(end - at, _BYTES)
        if not rest:
            yield distance


def _is_equal_at_end(keys: Tensor, ops: int) -> bool:
    """Whether the last periods of so many ops are alike, and enough of them."""
    return len(keys) // ops >= LEAST and bool((keys[-LEAST * ops + ops :] == keys[-LEAST * ops : -ops]).all())


def _equal_stretches(keys: Tensor, ops: int, worth: int) -> list[tuple[int, int]]:
    """Where each op is like the one a period later: the first op and the number of periods, the last first.

    Only where there are enough of them, of enough ops. Where what comes again becomes another for good, the first
    period of that is left out: it is the last of what came before as well.
    """
    if len(keys) // ops < LEAST:
        return []
    differ = (keys[ops:] != keys[:-ops]).nonzero().view(-1)
    begins = torch.cat((torch.zeros(1, dtype=torch.int64, device="cpu"), differ + ops))
    ends = torch.cat((differ + ops, torch.tensor([len(keys)], device="cpu")))
    periods = (ends - begins).div(ops, rounding_mode="floor")
    is_worth = (periods >= LEAST) & (periods * ops >= worth)
    enough = is_worth.nonzero().view(-1).flip(0)
    return list(zip((ends - periods * ops)[enough].tolist(), periods[enough].tolist(), strict=True))


class _RowOrder:
    """Finds the rows that belong to ops from one on; each table is gone through once, when it is asked for.

    Args:
        recording: Nothing of it pending.
        first_op: Of no earlier op is asked.
        worth: Ops of a stretch that is asked for, at least.
    """

    def __init__(self, recording: Recording, first_op: int, worth: int) -> None:
        self.recording = recording
        self.first_op = first_op
        self.worth = worth
        self._first = {"ops": first_op}
        """By table, the first row that can belong to such an op."""
        self._ids: dict[str, tuple[int, Tensor, Tensor]] = {}
        """By table: a row, the greatest id of an owner's up to each one from there on, and the least from each on."""

    def owner(self, name: str) -> str:
        """The table whose rows a table's belong to."""
        declared = self.recording.tables[name].declared[TABLES[name]].holds
        assert isinstance(declared, RowOf)
        return declared.table

    def boundaries(self, name: str, bounds: Tensor) -> Tensor | None:
        """Where the rows of each period begin in a table, and where the last ends; None where rows of two are mixed.

        Args:
            name: Of the table.
            bounds: The same of the owner's.
        """
        start, upto, least = self._ids_of(name)
        found = torch.searchsorted(upto, bounds)
        is_mixed = not bool((least[found] >= bounds).all())
        return None if is_mixed else found + start

    def _ids_of(self, name: str) -> tuple[int, Tensor, Tensor]:
        if (known := self._ids.get(name)) is not None:
            return known
        owner = self.owner(name)
        if owner not in self._first:
            self._ids_of(owner)
        low, column = self._first[owner], self.recording.tables[name].column(TABLES[name])
        # Rows are in the order of their ops, but for a few that were noted late: so look from some rows further up on.
        start, step = 0, 4096
        while step < len(column):
            if column[len(column) - step] < low:
                start = len(column) - step
                break
            step *= 2
        values = numbers(column, start)
        upto = least = values
        if len(values) and not bool((values[1:] >= values[:-1]).all()):
            upto, least = values.cummax(0).values, values.flip(0).cummin(0).values.flip(0)
        self._first[name] = start + int(torch.searchsorted(upto, low))
        found = start, upto, torch.cat((least, torch.full((1,), 2**62, device="cpu")))
        self._ids[name] = found
        return found


class _Compared:
    """Compares periods of ops that are alike with the one before each."""

    def __init__(self, order: _RowOrder, first_op: int, ops: int, periods: int) -> None:
        self._recording, self._order = order.recording, order
        self._first_op, self._ops, self._periods = first_op, ops, periods
        self._bounds: dict[str, Tensor] = {"ops": first_op + ops * torch.arange(periods + 1, device="cpu")}

    def stretches(self) -> list[AlikePeriods]:
        """The stretches in which each period is like the one before, the last first."""
        counted = self._count()
        if counted is None:
            return []
        runs = [self._alike_in(begin, end) for begin, end in _runs(counted) if end - begin >= LEAST]
        return [found for several in reversed(runs) for found in reversed(several)]

    def _alike_in(self, begin: int, end: int) -> list[AlikePeriods]:
        """The stretches among periods ``begin`` to ``end``, all of which have as many rows of each table."""
        rows = {
            name: (int(bound[begin]), int(bound[begin + 1] - bound[begin]))
            for name, bound in self._bounds.items()
            if name != "ops"
        }
        alike = torch.ones(end - begin, dtype=torch.bool, device="cpu")
        alike[-AFTER:] = False
        for name in rows:
            self._compare(name, rows, begin, end, alike)
        found = []
        for since, until in _runs(alike):
            # A pair of periods that are alike is (k, k + 1): the first that is like the one before it is since + 1.
            at = {name: (start + (since + 1) * count, count) for name, (start, count) in rows.items()}
            if not self._has_endless_graph(at):
                first_op = self._first_op + (begin + since + 1) * self._ops
                found.append(AlikePeriods(first_op, self._ops, until - since, at))
        return found

    def _has_endless_graph(self, rows: dict[str, tuple[int, int]]) -> bool:
        """Whether the graph of each period goes on with that of the one before, and that with the one before it.

        Such a graph is looked at whole in the end: none of it may be missing. (One iteration's lies in two periods, as
        these begin anywhere.)
        """
        (first, nodes), (start, count) = rows["nodes"], rows["edges"]
        within, across = dict[int, list[int]](), dict[int, list[int]]()
        edges = (self._recording.edges.column(name)[start : start + count] for name in ("node", "next"))
        for node, following in zip(*edges, strict=True):
            if first <= following:
                within.setdefault(node - first, []).append(following - first)
            elif first - nodes <= following:
                across.setdefault(node - first, []).append(following - first + nodes)
        reached: set[int] = set()
        coming = {following for several in across.values() for following in several}
        while coming != reached:
            reached, todo = coming, list(coming)
            inside = set(todo)
            while todo:
                more = [one for one in within.get(todo.pop(), ()) if one not in inside]
                inside.update(more)
                todo += more
            coming = {following for node in inside for following in across.get(node, ())}
        return bool(reached)

    def _count(self) -> Tensor | None:
        """Which periods have as many rows of each table as the one before; None where rows are in no order."""
        same = torch.ones(self._periods - 1, dtype=torch.bool, device="cpu")
        for name in TABLES:
            found = self._order.boundaries(name, self._bounds[self._order.owner(name)])
            if found is None:
                return None
            self._bounds[name] = found
            counts = found.diff()
            same &= counts[1:] == counts[:-1]
        return same

    def _compare(self, name: str, rows: dict[str, tuple[int, int]], begin: int, end: int, alike: Tensor) -> None:
        """Take out of ``alike`` the pairs of periods (``begin`` to ``end``) whose rows of a table differ."""
        start, count = rows[name]
        if not count:
            return
        table = self._recording.tables[name]
        periods = end - begin + 1

        def column(of: str) -> Tensor:
            return numbers(table.column(of), start, start + periods * count).view(periods, count)

        for of, declared in table.declared.items():
            holds = declared.holds
            if (name, of) in _IGNORED:
                continue
            if isinstance(holds, RowOf) and holds.table in ("ops", *rows):
                alike &= self._same_rows(column(of), holds.table, rows).all(1)
            elif isinstance(holds, ByKind):
                values, kinds = column(of), column(holds.kind)
                partner = column(_PARTNERS[of]) if of in _PARTNERS else values
                alike &= self._same_by_kind(values, partner, kinds, holds, rows).all(1)
            else:
                values = column(of)
                alike &= (values[1:] == values[:-1]).all(1)
        if name in ("tensors", "storages"):
            base = self._first_op + (begin + torch.arange(periods, device="cpu")) * self._ops
            died = column("died")
            lived = torch.where(died == NONE, NONE, died - base[:, None])
            alike &= (lived[1:] == lived[:-1]).all(1)

    def _same_rows(self, values: Tensor, table: str, rows: dict[str, tuple[int, int]]) -> Tensor:
        """Whether ids of a table's rows say the same in each period as in the one before."""
        if table == "ops":
            return values.diff(dim=0) == self._ops
        first, count = rows[table]
        step = values.diff(dim=0)
        is_old = values[1:] < first
        return torch.where(is_old, step == 0, (step == count) & (count > 0))

    def _same_by_kind(
        self, values: Tensor, partner: Tensor, kinds: Tensor, holds: ByKind, rows: dict[str, tuple[int, int]]
    ) -> Tensor:
        """The same where another column says what a number is of; a version counter goes on from what it was."""
        same, kind_of = values[1:] == values[:-1], kinds[1:]
        for kind, row in holds.rows.items():
            if row.table in rows:
                same = torch.where(kind_of == int(kind), self._same_rows(values, row.table, rows), same)
        if partner is values:
            return same
        return torch.where(kind_of == _VERSION, (values - partner).diff(dim=0) == 0, same)


def _runs(flags: Tensor) -> Iterator[tuple[int, int]]:
    """First and end of each run of true."""
    begin = None
    for at, flag in enumerate([*flags.tolist(), False]):
        if flag and begin is None:
            begin = at
        elif not flag and begin is not None:
            yield begin, at
            begin = None
