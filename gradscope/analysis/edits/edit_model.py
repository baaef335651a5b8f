"""An edit: what to put in place of which parts of the user's files, and what it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gradscope.analysis.edits.source_text import SourceText
from gradscope.analysis.report_model import Answer, Cause
from gradscope.recording import Recording


class SpanChange(NamedTuple):
    """One span of a file's text, and what takes its place."""

    start: int
    """In characters of the text as it was run, from 0."""
    end: int
    """The character behind its last; ``start`` where nothing is taken away."""
    text: str


class Edit(NamedTuple):
    """Spans of one file that are changed together."""

    title: str
    """What it does, in a line without full stop, with the code that it is about."""
    file: str
    """As the report names it: :attr:`Cause.file`."""
    changes: tuple[SpanChange, ...]

    @property
    def sorted_changes(self) -> tuple[SpanChange, ...]:
        """In the order of the text, what is inserted at one place in the order given."""
        return tuple(sorted(self.changes, key=lambda change: (change.start, change.end)))


class EditSources:
    """The source of the user's files, as it was run."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self._texts = {file.name: file.text for file in recording.files if file.is_user}
        self._read: dict[str, SourceText] = {}

    @property
    def files(self) -> tuple[str, ...]:
        """The user's files, as the report names them."""
        return tuple(self._texts)

    def text(self, file: str) -> SourceText | None:
        """A file's text; None for one that is not the user's, or that is no Python."""
        if file not in self._read and file in self._texts:
            found = SourceText.read(self._texts[file])
            if found is not None:
                self._read[file] = found
        return self._read.get(file)

    def of_cause(self, cause: Cause) -> SourceText | None:
        """The text in which a cause lies."""
        return self.text(cause.file)


Proposes = Callable[[Answer, EditSources], Iterable[Edit]]
"""Edits that may mend what an answer is about, the best first; each is proved before anybody is shown it."""


def applied(text: str, changes: Iterable[SpanChange]) -> str:
    """A text with its spans changed.

    Raises:
        ValueError: Two of them overlap.
    """
    parts, position = [], 0
    for change in sorted(changes, key=lambda one: (one.start, one.end)):
        if change.start < position:
            raise ValueError("two changes of one place")
        parts += [text[position : change.start], change.text]
        position = change.end
    return "".join((*parts, text[position:]))


def composed(first: Edit, second: Edit) -> Edit | None:
    """One edit in place of two, of which the second changes what the first has made.

    Returns:
        None where the second touches what the first has put in.
    """
    if first.file != second.file:
        return None
    moved = []
    for change in second.changes:
        shift = 0
        for known in first.sorted_changes:
            begin = known.start + shift
            if change.end < begin or (change.end == begin and change.start < begin):
                break
            if change.start < begin + len(known.text) or change.start == begin:
                return None
            shift += len(known.text) - (known.end - known.start)
        moved.append(SpanChange(change.start - shift, change.end - shift, change.text))
    title = f"{first.title}; {second.title}"
    return Edit(title, first.file, (*first.changes, *moved))
