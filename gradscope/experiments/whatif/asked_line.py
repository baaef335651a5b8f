"""What ``whatif`` was asked about: ``[FILE:]LINE[:NAME]``."""

from __future__ import annotations

import ast
import re
from typing import Literal, NamedTuple

from gradscope.errors import UsageError

_LINE = re.compile(r"(?:(?P<file>.*\.pyw?):)?(?P<line>\d+)(?::(?P<name>.*))?", re.DOTALL)
_FORM = "LINE, LINE:NAME or FILE:LINE:NAME, where NAME is a name or an expression of that line"

Side = Literal["", "read", "stored"]


class AskedLine(NamedTuple):
    """A line, and what of its statement."""

    file: str
    """As it was written; empty: the target's own."""
    line: int
    name: str = ""
    """A name or an expression, as Python spells it; empty: what the statement is about."""
    side: Side = ""
    """Which is meant of a name that the statement reads and stores."""

    @property
    def text(self) -> str:
        """As somebody would write it."""
        name = f"={self.name}" if self.side == "read" else f"{self.name}=" if self.side == "stored" else self.name
        return ":".join(part for part in (self.file, str(self.line), name) if part)


def read_asked(text: str) -> AskedLine:
    """Read what was written.

    Raises:
        UsageError: It is not of that form, or the name is no expression of Python's.
    """
    found = _LINE.fullmatch(text.strip())
    if found is None or not int(found["line"]):
        raise UsageError(f"{text!r} is no line", _FORM)
    file, name = found["file"] or "", (found["name"] or "").strip()
    side: Side = ""
    if name.startswith("=") and not name.startswith("=="):
        name, side = name[1:], "read"
    elif name.endswith("="):
        name, side = name[:-1], "stored"
    return AskedLine(file, int(found["line"]), spelled(name) if name else "", side)


def spelled(expression: str) -> str:
    """An expression as Python spells it.

    Raises:
        UsageError: It is none.
    """
    try:
        return ast.unparse(ast.parse(expression.strip(), mode="eval"))
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise UsageError(f"{expression!r} is no Python expression: {reason}", _FORM) from error
