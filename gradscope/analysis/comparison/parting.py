"""Where two runs of one program part: the first call, node or gradient that gave something else."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

from gradscope.analysis.comparison.comparison_model import PartedAt, Parting
from gradscope.analysis.facts.version_changes import changes_between
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
"""Kind, the name of a node, how many of the kind and name came before in a call, and which of a node's values."""
_AHEAD = 16
"""Calls in which two versions of torch are looked through for one that both make."""
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

    def prints(self, op: int) -> dict[_Key, tuple[int, _Print]]:
        """Row and fingerprint, in the order in which they were taken; of one taken more than once the last.

        Of nodes by what they are called and how many of one name came before, which two versions of torch may share
        where one has more nodes than the other; of others by their order.
        """
        found: dict[_Key, tuple[int, _Print]] = {}
        before: Counter[tuple[int, str]] = Counter()
        number: dict[tuple[int, int], int] = {}
        for (kind, row, place), fingerprint in self._of_op.get(op, {}).items():
            name = ""
            if kind == FingerprintKind.NODE:
                name = self.recording.text(self.recording.nodes.column("name")[row]).rstrip("0123456789")
            if (kind, row) not in number:
                number[kind, row] = before[kind, name]
                before[kind, name] += 1
            found[kind, name, number[kind, row], place] = row, fingerprint
        return found

    def inputs(self, op: int) -> list[_Print | None]:
        """The fingerprints of what a call was given."""
        return [self.last.get(tensor) for tensor in self.sources.index.uses.of(op)]

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

    def _is_one_call(self, here: int, there: int) -> bool:
        """Whether two calls are one in both runs: lines of the program may have moved, or the statement changed."""
        one, other = self._one.key(here), self._other.key(there)
        return one[0] == other[0] and (one[1] == other[1] or one[2] == other[2])

    def _places(self, here: int | None, there: int | None) -> tuple[Place, Place]:
        places = self._one.sources.index, self._other.sources.index
        return places[0].op_place(NONE if here is None else here), places[1].op_place(NONE if there is None else there)

    def _differences(self, here: int, there: int) -> Iterator[PartedAt]:
        one, other = self._one, self._other
        key = one.key(here)
        self._runs[key] = self._runs.get(key, 0) + 1
        is_pass = one.recording.ops.column("kind")[here] in _PASSES
        self._passes += is_pass
        before, is_alike = (one.inputs(here), other.inputs(there)), True
        theirs = other.prints(there)
        for found, (row, mine) in one.prints(here).items():
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
