"""Where the ranks of a job did not call the same collectives: then some wait for what others never call.

Of each group of ranks the calls of the first are kept, as numbers; of the others only where they part from it.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.ranks.collectives import Collective
from gradscope.analysis.report_model import Place


class CollectiveValue(NamedTuple):
    """What some ranks called where others called something else."""

    text: str
    """``all_reduce of (2,) float32``; empty: they called no more."""
    place: Place | None
    returned: bool
    """Whether the call was over."""
    ranks: tuple[int, ...]


class CollectiveParting(NamedTuple):
    """The first call of a group of ranks that is not the same on all of them."""

    group: tuple[int, ...]
    """Its ranks; empty: all."""
    number: int
    """Which call of the group's it is, from 1 on."""
    values: tuple[CollectiveValue, ...]


class _Group:
    """The calls of one group."""

    def __init__(self, first: int) -> None:
        self.ranks = [first]
        self.calls = array("i")
        """Of the first rank."""
        self.is_whole = True
        """Whether these are all that the first rank called."""
        self.parted: dict[int, tuple[int, int]] = {}
        """For each rank that parts from the first: where, and its call there (-1: none)."""


class CollectiveOrders:
    """Takes the calls of one rank after the other."""

    def __init__(self) -> None:
        self._known: list[Collective] = []
        self._numbers: dict[Collective, int] = {}
        self._groups: dict[tuple[int, ...], _Group] = {}

    def add(self, rank: int, called: Iterable[Collective], *, is_whole: bool) -> None:
        """Take one rank's; where they are not whole, it may have called more than is known."""
        own: dict[tuple[int, ...], array[int]] = {}
        for call in called:
            number = self._numbers.setdefault(call, len(self._known))
            if number == len(self._known):
                self._known.append(call)
            own.setdefault(call.group, array("i")).append(number)
        for group in {*own, *(group for group in self._groups if not group or rank in group)}:
            calls = own.get(group, array("i"))
            known = self._groups.get(group)
            if known is None:
                known = self._groups[group] = _Group(rank)
                known.calls, known.is_whole = calls, is_whole
                continue
            known.ranks.append(rank)
            at = self._first_difference(known.calls, calls)
            if at < min(len(known.calls), len(calls)) or (at < len(calls) and known.is_whole):
                known.parted[rank] = at, calls[at]
            elif at < len(known.calls) and is_whole:
                known.parted[rank] = at, -1

    def partings(self) -> Iterator[CollectiveParting]:
        """Of each group that parts: where, and who called what."""
        for group, known in sorted(self._groups.items()):
            if not known.parted:
                continue
            at = min(position for position, _ in known.parted.values())
            called: dict[tuple[str, Place | None, bool], list[int]] = {}
            for rank in known.ranks:
                position, number = known.parted.get(rank, (at + 1, -1))
                if position > at:
                    number = known.calls[at] if at < len(known.calls) else -1
                call = self._known[number] if number >= 0 else None
                key = ("", None, False) if call is None else (call.text, call.place, call.returned)
                called.setdefault(key, []).append(rank)
            values = (CollectiveValue(*key, tuple(sorted(ranks))) for key, ranks in called.items())
            yield CollectiveParting(group, at + 1, tuple(values))

    def _first_difference(self, first: Iterable[int], second: Iterable[int]) -> int:
        at = -1
        for at, (one, other) in enumerate(zip(first, second, strict=False)):
            if one != other and self._known[one].text != self._known[other].text:
                return at
        return at + 1
