"""What one process sent to another, and received from it, in its order."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.ranks.collectives import BETWEEN_TWO, group_of, waiting_events
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place
from gradscope.recording.flags import COLLECTIVE_OP, RAISED
from gradscope.recording.rows import EventKind


class Channel(NamedTuple):
    """What fits together of it: the k-th ``send`` of one process meets the k-th ``recv`` of the other."""

    sends: bool
    """Whether this process is the one that sends."""
    peer: int
    """The other one."""
    group: tuple[int, ...]
    tag: int


class Transfers(NamedTuple):
    """All of one process."""

    calls: dict[Channel, array[int]]
    """By channel the calls in their order, as positions in the places."""
    places: tuple[Place, ...]
    pending: frozenset[tuple[Channel, int]]
    """Which calls had not returned, by channel and number."""
    from_any: bool
    """Whether something was received from whoever sent first: what meets what is not known then."""

    def place(self, channel: Channel, number: int) -> Place:
        """Where a call was made."""
        return self.places[self.calls[channel][number]]


def transfers(index: Index, events: Events) -> Transfers:
    """Gather them."""
    places: dict[Place, int] = {}
    calls: dict[Channel, array[int]] = {}
    pending: set[tuple[Channel, int]] = set()
    from_any = False
    for name, detail, place, is_over in _calls(index, events):
        sends = "send" in name
        peer = detail.get("dst" if sends else "src")
        if not isinstance(peer, int):
            from_any = True
            continue
        tag = detail.get("tag", 0)
        channel = Channel(sends, peer, group_of(detail), tag if isinstance(tag, int) else 0)
        known = calls.setdefault(channel, array("i"))
        known.append(places.setdefault(place, len(places)))
        if not is_over:
            pending.add((channel, len(known) - 1))
    return Transfers(calls, tuple(places), frozenset(pending), from_any)


def _calls(index: Index, events: Events) -> Iterator[tuple[str, dict[str, object], Place, bool]]:
    recording = index.recording
    details = {event.subject: event.detail for event in events.of(EventKind.COLLECTIVE)}
    columns = (recording.ops.column(name) for name in ("kind", "flags"))
    for op, (kind, flags) in enumerate(zip(*columns, strict=True)):
        if kind != COLLECTIVE_OP or index.op_statement[op] == NOWHERE:
            continue
        name = index.func(op).rpartition(".")[2]
        if name in BETWEEN_TWO:
            yield name, details.get(op, {}), index.place(index.op_statement[op]), not flags & RAISED
    for name, detail, place in waiting_events(index, events):
        short = name.rpartition(".")[2]
        if short in BETWEEN_TWO:
            yield short, detail, place, False
