"""``# gradscope: ignore[CODE]``: what a program's source says is not to be reported of its lines."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from functools import cache

from gradscope.analysis.report_model import Answer
from gradscope.analysis.selection.codes import codes_in, known_codes, near_miss
from gradscope.frames.statements import Source, parse_source
from gradscope.recording import Recording
from gradscope.targets.comments import Comment, find_comments

_IGNORE = re.compile(r"#\s*gradscope:\s*ignore(?:\[(?P<codes>[^\]]*)\]|(?![\[\w-]))")
_EVERY = "*"
"""Stands for all codes: a comment that names none."""


class IgnoringComments:
    """The comments of a recording's files, by the lines of the statements that they are about.

    One behind code is about its statement, all lines of it; one on a line of its own about the next statement.
    """

    def __init__(self, recording: Recording) -> None:
        self.remarks: list[str] = []
        """What is wrong with a comment."""
        self._codes: dict[tuple[str, int], set[str]] = {}
        for file in recording.files:
            self._read(file.name, file.text)

    def ignore(self, answer: Answer) -> bool:
        """Whether a comment at the line of an answer, or at one of its causes, ignores the answer."""
        return any(
            {answer.code, _EVERY} & self._codes.get((where.file, line), set())
            for where in (answer.place, *answer.causes)
            if where is not None
            for line in range(where.line, where.end_line + 1)
        )

    def _read(self, file: str, text: str) -> None:
        statements = cache(lambda: parse_source(text))
        for comment, named in _comments(text):
            codes = {_EVERY} if named is None else set(codes_in([named]))
            for unknown in sorted(codes - known_codes() - {_EVERY} if codes else ()):
                said = f"# gradscope: ignore[{unknown}] names no diagnosis: {near_miss(unknown)}"
                self.remarks.append(f"{file}, line {comment.line}: {said}")
            for line in _lines(comment, statements(), text):
                self._codes.setdefault((file, line), set()).update(codes)


def _comments(text: str) -> Iterator[tuple[Comment, str | None]]:
    """The comments that ignore, and the codes in them as written; None: all."""
    try:
        comments = find_comments(text)
    except (tokenize.TokenError, SyntaxError):  # the file is no Python: a page with pasted prompts
        return
    for comment in comments:
        if found := _IGNORE.search(comment.text):
            yield comment, found["codes"]


def _lines(comment: Comment, source: Source, text: str) -> range:
    """The lines of the statement that a comment is about."""
    at = comment.line
    if comment.own_line and source.at(at, -1).line == at:  # it stands within no statement
        behind = enumerate(text.split("\n")[at:], at + 1)
        at = next((number for number, line in behind if line.strip() and not line.lstrip().startswith("#")), at)
    statement = source.at(at, -1)
    return range(min(at, statement.line), max(at, statement.end_line) + 1)
