"""How the parts of a transcript, page or notebook ran, and whether they printed what is shown below them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Place, RaisedError
from gradscope.recording.rows import EventKind

_OF_ITS_RUN = re.compile(r"\b0x[0-9a-fA-F]+\b|\b\d{9,}\b")
"""Addresses and ids, which are others in each run."""
_TRACEBACK = re.compile(r"^(?:Traceback \(most recent|\w*(?:Error|Exception|Interrupt)\b)|^-{20,}$", re.MULTILINE)
_ERROR = re.compile(r"^(?:[\w.]+\.)?(\w*(?:Error|Exception|Interrupt|Warning))\b", re.MULTILINE)
_NO_PYTHON = re.compile(r"<[^<>]*>")
"""What ``repr`` writes where there is nothing to write that could be read again."""
_BEGINS = re.compile(r"[A-Za-z_.]*\W?")
_ALIKE = 0.6
_SAID = 40


class SnippetFacts(NamedTuple):
    """One part that ran."""

    row: int
    """Of the events."""
    file: int
    line: int
    end_line: int
    shown: str
    """What the page shows below it."""
    printed: str
    error_type: str
    message: str
    error_line: int

    @property
    def shown_error(self) -> str:
        """The type of the error that the page shows; empty: it shows none."""
        if not _TRACEBACK.search(self.shown):
            return ""
        found = _ERROR.findall(self.shown)
        return found[-1] if found else "an error"

    @property
    def raised_unannounced(self) -> bool:
        """It raised, and the page does not show that it does."""
        return bool(self.error_type) and self.shown_error not in (self.error_type.rpartition(".")[2], "an error")

    @property
    def is_as_shown(self) -> bool | None:
        """Whether it printed what the page shows; None where there is nothing to compare."""
        if self.error_type or not self.shown:
            return None
        if self.shown_error:
            return False
        return _is_same(self.shown, self.printed) if self.printed else None


class SnippetRuns:
    """Those of one recording, in the order in which they ran."""

    def __init__(self, index: Index, events: Events) -> None:
        self._index = index
        self._events = events

    @cached_property
    def all(self) -> tuple[SnippetFacts, ...]:
        """Every one whose detail can be read."""
        found = []
        for event in self._events.of(EventKind.SNIPPET):
            numbers = [event.detail.get(key) for key in ("line", "end_line", "error_line")]
            texts = [event.detail.get(key) for key in ("shown", "printed", "error_type", "message")]
            is_known = 0 <= event.subject < len(self._index.recording.files)
            if not is_known or {type(one) for one in numbers} != {int} or {type(one) for one in texts} != {str}:
                continue  # a file that was changed by hand
            named = {**event.detail, "row": event.row, "file": event.subject}
            found.append(SnippetFacts(**{key: named[key] for key in SnippetFacts._fields}))
        return tuple(found)

    def statements(self, facts: SnippetFacts) -> list[ast.stmt]:
        """Its statements; none of one that is no Python."""
        trees = self._trees
        return [one for one in trees if facts.line <= one.lineno <= facts.end_line]

    @cached_property
    def _trees(self) -> list[ast.stmt]:
        files = {facts.file for facts in self.all}
        file = next(iter(files), -1)
        recording = self._index.recording
        if not 0 <= file < len(recording.files):
            return []
        try:
            return ast.parse(recording.files[file].text).body
        except (SyntaxError, ValueError, RecursionError):
            return []

    def stored(self, facts: SnippetFacts) -> set[str]:
        """The names that it stores, or would have."""
        return self._names(facts, ast.Store)

    def loaded(self, facts: SnippetFacts) -> set[str]:
        """The names that it reads."""
        return self._names(facts, ast.Load)

    def _names(self, facts: SnippetFacts, context: type[ast.expr_context]) -> set[str]:
        return {
            node.id
            for statement in self.statements(facts)
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, context)
        }

    def failed_before(self, facts: SnippetFacts) -> tuple[SnippetFacts, str] | None:
        """The last part before it that raised, where that would have stored a name that this one reads."""
        read = self.loaded(facts)
        for earlier in reversed(self.all[: self.all.index(facts)]):
            stored = self.stored(earlier) & read
            if earlier.error_type and stored:
                return earlier, min(stored)
            read -= stored
        return None

    def place(self, facts: SnippetFacts, line: int = 0) -> Place:
        """Where it is, or one line of it."""
        recording = self._index.recording
        first, last = (line, line) if line else (facts.line, facts.end_line)
        name, source = recording.files[facts.file].name, recording.source(facts.file, first, last)
        return Place(name, first, last, "<module>", source)

    def errors_elsewhere(self, known: tuple[RaisedError, ...]) -> Iterator[RaisedError]:
        """What parts raised that no torch function did."""
        seen = {(error.error_type, error.place.line) for error in known}
        for facts in self.all:
            if facts.error_type and (facts.error_type, facts.error_line) not in seen:
                yield RaisedError(self.place(facts, facts.error_line), "", facts.error_type, facts.message, 1)

    def remarks(self) -> tuple[str, ...]:
        """How many outputs are as the page shows them, and the first that an error made another."""
        shown = [one for one in self.all if one.is_as_shown is not None]
        others = [one for one in shown if not one.is_as_shown]
        if not shown:
            return ()
        same = len(shown) - len(others)
        text = f"outputs as the page shows them, ids apart: {same} of {len(shown)}"
        for one in others:
            if self.failed_before(one) is not None:  # the answer about it is one with that about the error
                today, page = one_line(one.printed, _SAID) or "nothing", one_line(one.shown, _SAID)
                return (f"{text}; line {one.line}: {today} today, {page} on the page",)
        return (text,)


def one_line(text: str, longest: int) -> str:
    """A text on one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _is_same(shown: str, printed: str) -> bool | None:
    """Ids and addresses, blanks, and prose behind the output do not count; None for prose that stands in its place."""
    page, today = _plain(shown), _plain(printed)
    if page == today or page.startswith(f"{today} "):
        return True
    if not _is_output(page, today):
        return None
    pattern = ".*".join(map(re.escape, page.split("...")))
    return "..." in page and re.fullmatch(pattern, today) is not None


def _plain(text: str) -> str:
    return " ".join(_OF_ITS_RUN.sub("#", text).split()).replace("[ ", "[").replace("( ", "(")


def _is_output(page: str, today: str) -> bool:
    """Whether a page's text is a literal, what ``repr`` writes of an object, or much like what was printed."""
    try:
        value = ast.parse(_NO_PYTHON.sub("0", page), mode="eval").body
        if isinstance(value, ast.Call):  # tensor([1., 2.], grad_fn=<AddBackward0>)
            return True
        ast.literal_eval(value)
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        begins = [match[0] for match in map(_BEGINS.match, (page, today)) if match]
        return begins[0] == begins[1] != "" or SequenceMatcher(None, page, today).ratio() >= _ALIKE
    return True
