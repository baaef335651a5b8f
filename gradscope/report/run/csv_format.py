"""CSV: the line table, for spreadsheets and data frames. RFC 4180, every field of a line row a column.

Text of a program is data: a cell that a spreadsheet would take for a formula begins with an apostrophe, characters that
a terminal would obey are spelled out. The JSON formats have every text as it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from gradscope.analysis.report_model import LineRow
from gradscope.report.run.run_result import RunResult
from gradscope.report.screen.text import safe

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""First characters by which spreadsheets know a formula, the full-width ones of East Asian keyboards included."""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?(e[+-]?[0-9]+)?")
LIST_SEPARATOR = "; "


def write(result: RunResult, stream: TextIO) -> None:
    """Write the line table."""
    names = tuple(LineRow._fields)
    write_table(names, ([getattr(row, name) for name in names] for row in result.report.lines), stream)


def write_table(header: Sequence[str], rows: Iterable[Sequence[Any]], stream: TextIO) -> None:
    """Write a table; truth values as ``true`` and ``false``, nothing as an empty cell, lists joined by ``; ``."""
    writer = csv.writer(stream)
    writer.writerow(map(_cell, header))
    writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> str | int | float:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else value  # (a line would name its file)
    text = LIST_SEPARATOR.join(map(str, value)) if isinstance(value, tuple) else str(value)
    shown = "\n".join(safe(line, tab="\t") for line in text.split("\n"))
    return f"'{shown}" if shown.startswith(_FORMULA) and not _NUMBER.fullmatch(shown) else shown
