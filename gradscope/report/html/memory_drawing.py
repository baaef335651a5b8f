"""Memory as shapes: the timeline as stacked areas, and tensors as stretches of their block."""

from __future__ import annotations

from typing import Any, NamedTuple

from gradscope.analysis.facts.memory.memory_timeline import MemoryTimeline
from gradscope.analysis.report_model import AliasGroup, AliasMember, Place

HEIGHT = 1000
"""Units from nothing to the most that was in use."""
BLOCK = 1000
"""Units of a whole block."""
_LEAST = 6
"""Units of the narrowest stretch."""


class Area(NamedTuple):
    """One line's share."""

    label: str
    path: str
    """Of an SVG ``path``, a unit a column."""


class Bar(NamedTuple):
    """A stretch of a block."""

    start: int
    width: int


def place_label(place: Place | None) -> str:
    """A line with its source."""
    if place is None:
        return "other lines, and what no call was seen to allocate"
    source = " ".join(place.source.split())
    return f"line {place.line}: {source}" if place.line else "outside your code"


def areas(timeline: MemoryTimeline) -> list[Area]:
    """The shares of a timeline, stacked, the largest at the bottom."""
    peak = max(timeline.total, default=0) or 1
    below = [0] * len(timeline.ops)
    found = []
    for series in timeline.series:
        above = [low + own for low, own in zip(below, series.nbytes, strict=True)]
        upper = " ".join(f"L{at} {_y(value, peak)} L{at + 1} {_y(value, peak)}" for at, value in enumerate(above))
        lower = " ".join(
            f"L{at + 1} {_y(value, peak)} L{at} {_y(value, peak)}" for at, value in reversed(list(enumerate(below)))
        )
        found.append(Area(place_label(series.place), f"M0 {_y(above[0], peak)} {upper} {lower} Z"))
        below = above
    return found


def _y(value: int, peak: int) -> int:
    return HEIGHT - round(HEIGHT * value / peak)


def timeline_data(timeline: MemoryTimeline) -> dict[str, Any]:
    """What the page's script reads out at a column."""
    labels = list(dict.fromkeys(map(place_label, timeline.places)))
    position = {label: at for at, label in enumerate(labels)}
    return {
        "ops": timeline.ops,
        "total": timeline.total,
        "labels": labels,
        "at": [position[place_label(place)] for place in timeline.places],
        "series": [[place_label(one.place), one.nbytes] for one in timeline.series],
    }


def bar(member: AliasMember, group: AliasGroup) -> Bar:
    """Where a tensor lies on its block."""
    whole = max(group.nbytes, member.end_byte, 1)
    start = min(round(BLOCK * member.first_byte / whole), BLOCK - _LEAST)
    width = max(_LEAST, round(BLOCK * (member.end_byte - member.first_byte) / whole))
    return Bar(start, min(width, BLOCK - start))
