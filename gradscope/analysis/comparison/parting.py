"""Where two runs of one program part: the first call, node or gradient that gave something else."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gradscope.analysis.comparison.comparison_model import PartedAt, Parting
from gradscope.analysis.facts.derivatives.version_changes import changes_between
from gradscope.analysis.index import NOWHERE
from gradscope.analysis.report_builder import gather
from gradscope.analysis.report_model import Place
from gradscope.recording import NONE, Recording
from gradscope.recording.rows import Fingerprint, FingerprintKind, OpKind

_PASSES = (OpKind.BACKWARD, OpKind.GRAD)
_KINDS: dict[int, Literal["result", "input", "gradient", "node"]] = {
    FingerprintKind.RESULT: "result",
    FingerprintKind.INPUT: "input",
    FingerprintKind.GRADIENT: "gradient",
    FingerprintKind.NODE: "node",
}
_Key = tuple[int, str, int, int]
"""Kind, the name of a node and its call, how many of both came before in a call, and which of a node's values."""
_AHEAD = 16
"""Calls in which two versions of torch are looked through for one that both make."""
_FAR_AHEAD = 100_000
"""Calls that compiled code may stand for in a run that has none."""
_COMPILED_MODULE, _COMPILED_CALL = "torch.OptimizedModule.__call__", "CompiledFunction"
_Inputs = Literal["equal", "unlike", "none", "unknown"]


def find_parting(one: Recording, other: Recording, tolerance: float = 0.0) -> Parting | None:
    """Compare two recordings call by call; None where either has no fingerprints.

    Args:
        one: A recording.
        other: Another, of the same program.
        tolerance: Norms that are no further apart, as a part of the larger, count as equal.
    """
    if not len(one.fingerprints) or not len(other.fingerprints):
        return None
    return _BothRuns(_Side(one), _Side(other), tolerance).parting()


class _Print(NamedTuple):
    """A fingerprint."""

    digest: int
    norm: float
    bad: int


class _Side:
    """One recording: its calls in order, and what each gave."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.sources = gather(recording)
        self.last: dict[int, _Print] = {}
        """The last fingerprint of each tensor before the call that is looked at."""
        self.number: dict[int, int] = {}
        """The calls that both runs made, by op: numbers that both have."""
        self._of_op: dict[int, dict[tuple[int, int, int], _Print]] = {}
        given: Counter[tuple[int, int]] = Counter()
        for row in recording.fingerprints:
            place = 0
            if row.kind == FingerprintKind.NODE:
                place = given[row.op, row.row]
                given[row.op, row.row] += 1
            self._of_op.setdefault(row.op, {})[row.kind, row.row, place] = _print(row)

    def calls(self) -> dict[int, list[int]]:
        """The ops of each thread."""
        found: dict[int, list[int]] = {}
        for op, thread in enumerate(self.recording.ops.column("thread")):
            found.setdefault(thread, []).append(op)
        return found

    def key(self, op: int) -> tuple[str, str, int]:
        """What a call is known by in another run: its function, its statement, and the line."""
        place = self.sources.index.op_place(op)
        return self.sources.index.func(op), place.source.strip(), place.line

    def prints(self, op: int, *, named: bool) -> dict[_Key, tuple[int, _Print]]:
        """Row and fingerprint, in the order in which they were taken; of one taken more than once the last.

        Of nodes by what they are called, the call that made them, which the other run must have made as well, and how
        many of these came before: two versions of torch may share them where one has more nodes than the other. Of
        others by their order, but of gradients by the names of the leaves where these are asked for.
        """
        found: dict[_Key, tuple[int, _Print]] = {}
        before: Counter[tuple[int, str]] = Counter()
        number: dict[tuple[int, int], int] = {}
        for (kind, row, place), fingerprint in self._of_op.get(op, {}).items():
            name = ""
            if kind == FingerprintKind.NODE:
                made_by = self.recording.nodes.column("op")[row]
                if made_by >= 0 and made_by not in self.number:
                    continue
                name = self.recording.text(self.recording.nodes.column("name")[row]).rstrip("0123456789")
                name = f"{name} of {self.number.get(made_by, NONE)}"
            elif kind == FingerprintKind.GRADIENT and named:
                name = self.sources.names.of(row)
            if (kind, row) not in number:
                number[kind, row] = before[kind, name]
                before[kind, name] += 1
            found[kind, name, number[kind, row], place] = row, fingerprint
        return found

    def inputs(self, op: int) -> list[_Print | None]:
        """The fingerprints of what a call was given."""
        return [self.last.get(tensor) for tensor in self.sources.index.uses.of(op)]

    def gradients(self, op: int) -> set[str]:
        """The names of the leaves whose gradient a pass gave."""
        kinds = self._of_op.get(op, {})
        return {self.sources.names.of(row) for kind, row, _ in kinds if kind == FingerprintKind.GRADIENT}

    def at_start(self) -> dict[str, _Print]:
        """The leaves with a gradient in the first backward pass, as they were before it."""
        first = min(self.sources.gradients.roots, default=NONE)
        known: dict[int, _Print] = {}
        leaves: list[int] = []
        for op, prints in self._of_op.items():
            for (kind, row, _), found in prints.items():
                if op < first and kind in (FingerprintKind.RESULT, FingerprintKind.INPUT):
                    known[row] = found
                elif op == first and kind == FingerprintKind.GRADIENT:
                    leaves.append(row)
        return {self.sources.names.of(row): known[row] for row in leaves if row in known}

    def is_compiled(self, op: int) -> bool:
        """Whether a call runs compiled code: of a module, or of a function of the user's, by whose name it goes."""
        name = self.sources.index.func(op)
        return name == _COMPILED_MODULE or name.startswith(_COMPILED_CALL) or "." not in name

    def learn(self, op: int) -> None:
        """A call is over."""
        for (kind, row, _), found in self._of_op.get(op, {}).items():
            if kind in (FingerprintKind.RESULT, FingerprintKind.INPUT):
                self.last[row] = found


class _BothRuns:
    """Goes through both runs at once."""

    def __init__(self, one: _Side, other: _Side, tolerance: float) -> None:
        self._one = one
        self._other = other
        self._tolerance = tolerance
        self._compared = 0
        self._runs: dict[tuple[str, str, int], int] = {}
        self._passes = 0
        self._versions = one.recording.info.torch, other.recording.info.torch
        self._only_in_one = 0
        self._compiled = 0

    def parting(self) -> Parting:
        """The whole of it."""
        first: PartedAt | None = None
        gradient: PartedAt | None = None
        calls = None
        calls_before = False
        for here, there in self._pairs():
            if here is None or there is None or not self._is_one_call(here, there):
                calls, calls_before = self._places(here, there), first is None
                break
            for found in self._differences(here, there):
                first = first or found
                gradient = gradient or (found if found.kind == "gradient" else None)
            if gradient is not None:
                break
        mine, its = self._one.at_start(), self._other.at_start()
        infos = self._one.recording.info, self._other.recording.info
        changes = changes_between(first.call, *self._versions) if first is not None and first.kind == "node" else ()
        return Parting(
            tolerance=self._tolerance,
            compared=self._compared,
            first=first,
            gradient=gradient,
            calls=calls,
            calls_before=calls_before,
            torch=self._versions,
            changes=changes,
            only_in_one=self._only_in_one,
            compiled=self._compiled,
            parameters=len(mine.keys() & its.keys()),
            unlike_at_start=tuple(name for name in mine if name in its and not self._is_equal(mine[name], its[name])),
            hosts=tuple(info.host for info in infos),
            ranks=tuple(info.rank for info in infos),
        )

    def _pairs(self) -> Iterator[tuple[int | None, int | None]]:
        """The calls of both, thread by thread; where one is at its end, None."""
        ours, theirs = self._one.calls(), self._other.calls()
        for thread in sorted({*ours, *theirs}):
            one, other = ours.get(thread, []), theirs.get(thread, [])
            at, its = 0, 0
            while at < len(one) and its < len(other):
                ahead = self._ahead(one[at : at + _AHEAD], other[its : its + _AHEAD])
                self._only_in_one += sum(ahead)
                at, its = at + ahead[0], its + ahead[1]
                at, its = self._behind_compiled(one, at, other, its)
                if at >= len(one) or its >= len(other):
                    break
                yield one[at], other[its]
                at, its = at + 1, its + 1
            if at < len(one) or its < len(other):
                yield (one[at] if at < len(one) else None), (other[its] if its < len(other) else None)

    def _ahead(self, one: list[int], other: list[int]) -> tuple[int, int]:
        """How many calls of each are to be passed over until both make the same; none where that is not near.

        Only under two versions of torch: its own Python may call more under one, for the same statement.
        """
        if self._versions[0] == self._versions[1] or self._is_one_call(one[0], other[0]):
            return 0, 0
        for distance in range(1, _AHEAD):
            for skipped in range(distance + 1):
                left = distance - skipped
                if skipped < len(one) and left < len(other) and self._is_one_call(one[skipped], other[left]):
                    return skipped, left
        return 0, 0

    def _behind_compiled(self, one: list[int], at: int, other: list[int], its: int) -> tuple[int, int]:
        """Where both go on behind compiled code that only one of them runs; where they are, if it is not that."""
        if self._is_one_call(one[at], other[its]):
            return at, its
        end, last = self._end_of_compiled(self._one, one, at), self._end_of_compiled(self._other, other, its)
        if end == at and last == its:
            return at, its
        if end == len(one) and last == len(other):
            met = end, last
        elif end > at and end < len(one):
            position = self._next_like(self._other, other, last, self._one.key(one[end]))
            met = (at, its) if position == NONE else (end, position)
        elif last > its and last < len(other):
            position = self._next_like(self._one, one, end, self._other.key(other[last]))
            met = (at, its) if position == NONE else (position, last)
        else:
            met = len(one), len(other)
        for side, ops in ((self._one, one[at : met[0]]), (self._other, other[its : met[1]])):
            self._compiled += len(ops)
            for op in ops:
                side.learn(op)
        return met

    @staticmethod
    def _end_of_compiled(side: _Side, ops: list[int], at: int) -> int:
        while at < len(ops) and side.is_compiled(ops[at]):
            at += 1
        return at

    @staticmethod
    def _next_like(side: _Side, ops: list[int], since: int, key: tuple[str, str, int]) -> int:
        """The next call of a run that is one that the other made: by its function and statement."""
        for position in range(since, min(len(ops), since + _FAR_AHEAD)):
            known = side.key(ops[position])
            if known[0] == key[0] and (known[1] == key[1] or known[2] == key[2]):
                return position
        return NONE

    def _is_one_call(self, here: int, there: int) -> bool:
        """Whether two calls are one in both runs: lines of the program may have moved, or the statement changed."""
        one, other = self._one.key(here), self._other.key(there)
        return one[0] == other[0] and (one[1] == other[1] or one[2] == other[2])

    def _places(self, here: int | None, there: int | None) -> tuple[Place, Place]:
        places = self._one.sources.index, self._other.sources.index
        return places[0].op_place(NONE if here is None else here), places[1].op_place(NONE if there is None else there)

    def _differences(self, here: int, there: int) -> Iterator[PartedAt]:
        one, other = self._one, self._other
        one.number[here] = other.number[there] = len(one.number)
        key = one.key(here)
        self._runs[key] = self._runs.get(key, 0) + 1
        is_pass = one.recording.ops.column("kind")[here] in _PASSES
        self._passes += is_pass
        before, is_alike = (one.inputs(here), other.inputs(there)), True
        named = is_pass and one.gradients(here) == other.gradients(there)
        theirs = other.prints(there, named=named)
        for found, (row, mine) in one.prints(here, named=named).items():
            if found not in theirs:
                continue
            kind, (_, its) = found[0], theirs[found]
            if self._is_equal(mine, its):
                self._compared += is_alike
                continue
            inputs: _Inputs = ("equal" if is_alike else "unlike") if is_pass else self._inputs(*before)
            yield self._parted(here, kind, row, mine, its, "none" if kind == FingerprintKind.INPUT else inputs, is_pass)
            is_alike = False
        one.learn(here)
        other.learn(there)

    def _inputs(self, mine: list[_Print | None], its: list[_Print | None]) -> _Inputs:
        if not mine and not its:
            return "none"
        pairs = list(zip(mine, its, strict=False))
        if any(a is not None and b is not None and not self._is_equal(a, b) for a, b in pairs):
            return "unlike"
        return (
            "equal" if len(mine) == len(its) and all(a is not None and b is not None for a, b in pairs) else "unknown"
        )

    def _is_equal(self, mine: _Print, its: _Print) -> bool:
        if mine.digest == its.digest and mine.bad == its.bad:
            return True
        off = _off(mine, its)
        return mine.bad == its.bad and off is not None and 0 < self._tolerance >= off

    def _parted(
        self, op: int, kind: int, row: int, mine: _Print, its: _Print, inputs: _Inputs, is_pass: bool
    ) -> PartedAt:
        sources, recording = self._one.sources, self._one.recording
        index = sources.index
        place, call = index.op_place(op), index.call_name(op)
        if kind == FingerprintKind.NODE:
            made_by = recording.nodes.column("op")[row]
            place = index.op_place(made_by) if made_by >= 0 else index.place(NOWHERE)
            call, name = recording.text(recording.nodes.column("name")[row]), ""
        else:
            name = sources.names.at(row, op)
        run = self._passes if is_pass else self._runs[self._one.key(op)]
        backward = index.op_place(op) if is_pass else None
        return PartedAt(_KINDS[kind], place, call, name, run, backward, inputs, _off(mine, its), (mine.bad, its.bad))


def _print(row: Fingerprint) -> _Print:
    (norm,) = struct.unpack("<d", struct.pack("<q", row.norm))
    return _Print(row.digest, norm, row.bad)


def _off(mine: _Print, its: _Print) -> float | None:
    if not math.isfinite(mine.norm) or not math.isfinite(its.norm):
        return None
    largest = max(mine.norm, its.norm)
    return abs(mine.norm - its.norm) / largest if largest else 0.0
