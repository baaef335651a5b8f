"""The comments of a source text, found by Python's own tokenizer: what stands in a string is none."""

from __future__ import annotations

import io
import tokenize
from typing import NamedTuple


class Comment(NamedTuple):
    """One comment."""

    text: str
    """With the ``#``."""
    line: int
    column: int
    own_line: bool
    """Nothing but blanks stands before it."""


def find_comments(source: str) -> list[Comment]:
    """Every comment of a source text that Python can parse, in order."""
    if "#" not in source:
        return []
    found = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            found.append(Comment(token.string, line, column, not token.line[:column].strip()))
    return found
