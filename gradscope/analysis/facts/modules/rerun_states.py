"""State that is no tensor and that checkpointed functions found otherwise when backward ran them again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.frames.called_by_torch.state_of_reruns import StateLines, StateOfReruns
from gradscope.recording.rows import EventKind

_PLACES = 2
"""Statements that are named; of more of them it is not known which it was."""
_SORTS = ("own", "entered", "outside", "left")


class FoundOtherwise(NamedTuple):
    """One name at one call of checkpoint."""

    event: int
    span: int
    """Of the call."""
    owner: str
    """The class of the object; empty for a name of the file's own."""
    name: str
    sort: str
    """As in ``EventKind.RERUN_STATE``."""
    file: int
    """That in which functions ran again."""
    lines: tuple[StateLines, ...]
    """The statements that changed it, or put something there; empty where it is not clear which."""
    is_computed_with: bool
    """A statement that ran again computes with another value than it did in the forward pass."""
    is_read: bool
    """A function that ran again reads it at all."""


def found_otherwise(index: Index, events: Events) -> Iterator[FoundOtherwise]:
    """Each of them, in each file in which functions ran again that know the name."""
    known = events.of(EventKind.RERUN_STATE)
    again: dict[int, set[int]] = {}
    for event in events.of(EventKind.RECOMPUTED) if known else ():
        if event.span >= 0 and not event.detail.get("within"):
            span = index.recording.spans[event.span]
            again.setdefault(span.file, set()).add(span.stmt_line)
    ran: dict[int, set[int]] = {}
    for number in set(index.op_statement) if again else ():
        if number >= 0:
            ran.setdefault(index.statements[number].file, set()).add(index.statements[number].line)
    for event in known:
        for sort in _SORTS:
            for owner, name, values in _named(event.detail.get(sort)):
                for file, lines in again.items():
                    text = index.recording.files[file].text
                    state = StateOfReruns(text, owner, name, lines, ran.get(file, set()), values)
                    yield from _found(state, partial(FoundOtherwise, event.row, event.span, owner, name, sort, file))


def _found(state: StateOfReruns, found: partial[FoundOtherwise]) -> Iterator[FoundOtherwise]:
    sort = found.args[4]
    if sort == "left":
        lines, is_computed_with = state.puts(), False
    elif sort == "outside":
        lines, is_computed_with = state.assignments_elsewhere(), state.is_computed_with()
    else:
        lines = state.changes()
        is_computed_with = state.is_computed_with(before_changes=sort == "entered")
    if lines or sort == "outside":
        known = tuple(lines) if len(lines) <= _PLACES else ()
        yield found(known, is_computed_with, state.is_read())


def _named(value: object) -> Iterator[tuple[str, str, list[tuple[int, int]]]]:
    """Names of a detail, with their values; none where a file that was changed by hand holds something else."""
    for one in value if isinstance(value, list) else ():
        if isinstance(one, list) and len(one) >= 2 and all(isinstance(part, str) for part in one[:2]):
            values = next((part for part in one[2:] if isinstance(part, list)), [])
            pairs = [
                pair for pair in values if isinstance(pair, list) and [isinstance(x, int) for x in pair] == [True] * 2
            ]
            yield one[0], one[1], [(first, then) for first, then in pairs]
