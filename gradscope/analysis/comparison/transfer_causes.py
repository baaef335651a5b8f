"""What one rank sent another that it did not receive, and what it waited for that was not sent: pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.comparison.rank_model import RankCause, Ranks
from gradscope.analysis.facts.ranks.transfers import Channel
from gradscope.analysis.report_model import Place

_SAID = 4
"""Causes that are told, at most."""


class _Alone(NamedTuple):
    """The first call of a channel that meets none of the other process's."""

    rank: int
    channel: Channel
    number: int
    """Which call of the channel it is, from 0 on."""
    met: int
    """How many calls of the other process there are."""
    place: Place
    is_pending: bool


def unmatched_transfers(ranks: Ranks) -> Iterator[RankCause]:
    """The first of each pair of processes, calls that had not returned before others."""
    alone = sorted(_alone(ranks), key=lambda one: not one.is_pending)
    done: set[frozenset[int]] = set()
    for one in alone:
        pair = frozenset((one.rank, one.channel.peer))
        if pair in done or len(done) == _SAID:
            continue
        done.add(pair)
        crossed = next((x for x in alone if _crosses(one, x)), None)
        yield _crossed(one, crossed) if crossed is not None else _cause(ranks, one)


def _alone(ranks: Ranks) -> Iterator[_Alone]:
    for rank, facts in ranks.facts.items():
        for channel, calls in facts.transfers.calls.items():
            other = ranks.facts.get(channel.peer)
            if other is None or other.transfers.from_any or channel.peer not in ranks.whole or channel.peer == rank:
                continue
            opposite = channel._replace(sends=not channel.sends, peer=rank)
            met = len(other.transfers.calls.get(opposite, ()))
            if len(calls) > met:
                is_pending = (channel, met) in facts.transfers.pending
                yield _Alone(rank, channel, met, met, facts.transfers.place(channel, met), is_pending)


def _crosses(one: _Alone, other: _Alone) -> bool:
    """Whether both wait for the same of each other: two that send, or two that receive."""
    return (
        (one.rank, one.channel.peer) == (other.channel.peer, other.rank)
        and one.channel.sends == other.channel.sends
        and one.is_pending
        and other.is_pending
    )


def _crossed(one: _Alone, other: _Alone) -> RankCause:
    verb, other_verb = ("send", "receive") if one.channel.sends else ("recv", "send")
    return RankCause(
        "send-without-recv",
        "problem",
        tuple(sorted((one.rank, other.rank))),
        one.place,
        f"Line {one.place.line}: rank {one.rank} waits in {verb} {_peer(one)}, and rank {other.rank} in {verb} "
        f"{_peer(other)} at line {other.place.line}: neither {other_verb}s. "
        f"Let one of them {other_verb} first, or use isend and irecv and wait for both.",
        (),
    )


def _cause(ranks: Ranks, one: _Alone) -> RankCause:
    verb, opposite = ("send", "recv") if one.channel.sends else ("recv", "send")
    peer = one.channel.peer
    times = f"{opposite} {'from' if one.channel.sends else 'to'} rank {one.rank}"
    tag = f" with tag {one.channel.tag}" if one.channel.tag else ""
    known = f"rank {peer} called {times}{tag} {_times(one.met)}, and {ranks.stood[peer]}"
    other_tags = sorted(
        channel.tag
        for channel in ranks.facts[peer].transfers.calls
        if (channel.sends, channel.peer) == (not one.channel.sends, one.rank) and channel.tag != one.channel.tag
    )
    if other_tags and not one.met:
        known += f" (with tag {other_tags[0]} it did)"
    waits = f"rank {one.rank} waits in" if one.is_pending else f"rank {one.rank} called"
    return RankCause(
        "send-without-recv",
        "problem" if one.is_pending or not ranks.all_ended_well else "warning",
        (one.rank,),
        one.place,
        f"Line {one.place.line}: {waits} {verb} {one.number + 1:,} {_peer(one)}{tag}, and that has no {opposite}: "
        f"{known}. What one rank sends another must receive, in the same order.",
        (),
    )


def _peer(one: _Alone) -> str:
    return f"{'to' if one.channel.sends else 'from'} rank {one.channel.peer}"


def _times(count: int) -> str:
    return "never" if not count else "once" if count == 1 else f"{count:,} times"
