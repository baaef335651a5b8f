"""Markdown as GitHub shows it, for issues, posts and READMEs: what was run, the answers, the line table, the totals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import dedent
from typing import TextIO

from gradscope.analysis.report_model import Answer, LineRow
from gradscope.analysis.sizes import size
from gradscope.report.run.run_result import RunResult
from gradscope.report.run.summary import outcome, totals
from gradscope.report.screen.text import UNICODE, safe

_HEADER = ("line", "source", "tensor", "shape", "dtype", "requires_grad", "grad_fn", "memory", "new", "saved", "notes")
_RIGHT = frozenset(("line", "new", "saved"))
_SPECIAL = re.compile(r"[&<>|\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=www)\.")
"""What Markdown obeys inside a cell: an underscore within a word is none, an address becomes a link."""


def write(result: RunResult, stream: TextIO) -> None:
    """Write the page."""
    report = result.report
    title = f": {words(report.run.title)}" if report.run.title else ""
    stream.write(f"# gradscope {words(report.run.target or report.run.kind)}{title}\n\n{words(outcome(report))}\n\n")
    if report.answers:
        stream.write("".join(map(_answer, report.answers)) + "\n")
    if report.lines:
        stream.write(table(_HEADER, map(_cells, report.lines), _RIGHT) + "\n")
    stream.write("  \n".join(words(line.plain) for line in totals(report, UNICODE)) + "\n")


def _answer(answer: Answer) -> str:
    return f"- **{answer.severity}** {words(' '.join(answer.text.split()))} {code(answer.code)}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str] = frozenset()) -> str:
    """A table of cells that are Markdown already.

    Args:
        header: Titles of the columns.
        rows: Cells.
        right: Titles of the columns of numbers.
    """
    rules = ["---:" if title in right else "---" for title in header]
    lines = [[words(title) for title in header], rules, *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def code(text: str) -> str:
    """Text of a program as code in a cell: shown to the letter, over as many lines as it has."""
    return "<br>".join(_code(safe(line)) for line in text.split("\n"))


def words(text: str) -> str:
    """Text in a cell, with nothing in it that Markdown or HTML would obey."""
    return "<br>".join(_escaped(safe(line)) for line in text.split("\n"))


def _code(line: str) -> str:
    """A code span; where it would need a pipe, which no code span in a table can hold to the letter, HTML."""
    if not line.strip():
        return ""
    if "|" in line:
        return f"<code>{_escaped(line)}</code>"
    fence = "`" * (1 + max((len(ticks) for ticks in re.findall("`+", line)), default=0))
    stripped = "`" in (line[0], line[-1]) or line[0] == line[-1] == " "
    padded = f" {line} " if stripped else line
    return f"{fence}{padded}{fence}"


def _escaped(line: str) -> str:
    return _SPECIAL.sub(lambda special: f"&#{ord(special[0])};", line)


def _cells(row: LineRow) -> list[str]:
    where = f"{row.line} ×{row.executions}" if row.executions > 1 else str(row.line)
    shared = f"{row.storage} = {code(row.alias_of)}" if row.alias_of else row.storage
    return [
        where,
        code(dedent(row.source)),
        code(row.name),
        code(row.shape),
        code(row.dtype),
        _changed(row.requires_grad_before, row.requires_grad),
        code(row.grad_fn) or ("leaf" if row.is_leaf else ""),
        f"{shared} {_version(row)}".strip(),
        size(row.allocated_bytes) if row.allocated_bytes else "",
        size(row.saved_bytes) if row.saved_bytes else "",
        "<br>".join(words(note) for note in _notes(row)),
    ]


def _notes(row: LineRow) -> list[str]:
    events = {
        "cut": f"cut: {row.requires_grad_why}",
        "error": "raised",
        "backward": f"backward from {row.name}" if row.name else "backward",
        "export": f"values left torch: {row.op}",
    }
    event = [events[row.kind]] if row.kind in events else []
    value = [f"= {row.value}"] if row.value else []
    return [*event, *row.notes, *(f"under {mode}" for mode in row.modes), *value]


def _changed(before: bool | None, now: bool | None) -> str:
    return str(now if now is not None else "") if before in (None, now) else f"{before}→{now}"


def _version(row: LineRow) -> str:
    if row.version_before is not None and row.version_before != row.version:
        return f"v{row.version_before}→{row.version}"
    return f"v{row.version}" if row.version else ""
