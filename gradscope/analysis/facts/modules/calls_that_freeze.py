"""Where requires_grad was switched off, and through which functions of the user's."""

from __future__ import annotations

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.recording.rows import EventKind


def ways_of_freezing(index: Index, events: Events) -> dict[int, list[list[int]]]:
    """By the span at which requires_grad was switched off: the spans of the functions around, on each way seen."""
    found: dict[int, list[list[int]]] = {}
    for event in events.of(EventKind.FROZEN):
        way, spans = event.detail.get("through"), len(index.recording.spans)
        if isinstance(way, list) and all(isinstance(one, int) and 0 <= one < spans for one in way):
            found.setdefault(event.span, []).append(way)
    return found


def span_in_function(index: Index, events: Events, op: int, function: tuple[int, int]) -> int:
    """Where a function froze something, or called what did: the span of the call that stands in it.

    Args:
        index: The recording.
        events: Its events.
        op: The call that switched requires_grad off.
        function: The function: its file, and its name (a text).

    The span of that call itself where none of the functions around is the one.
    """
    own = index.recording.ops.column("span")[op]
    for event in events.of(EventKind.FROZEN):
        way = event.detail.get("through") if event.subject == op else None
        for span in way if isinstance(way, list) else ():
            if isinstance(span, int) and 0 <= span < len(index.recording.spans):
                row = index.recording.spans[span]
                if (row.file, row.function) == function:
                    return span
    return own
