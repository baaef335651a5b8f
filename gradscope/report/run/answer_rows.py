"""The answers on the screen: the first lines of it, and few of them; one a line to change."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from gradscope.analysis.report_model import Answer, Report, Severity, SuppressedBy
from gradscope.analysis.selection.answers_by_cause import answers_by_cause
from gradscope.report.run.summary import counted
from gradscope.report.screen.text import Symbols, cut_to, safe

ROWS = 10
"""Lines of the screen for answers."""
IN_SHORT = 4
"""Answers that are said once more below a screen that is higher than the terminal."""
_STYLE: dict[Severity, str] = {"problem": "bold red", "warning": "bold yellow", "note": "cyan"}
_SUPPRESSED_BY: dict[SuppressedBy, str] = {
    "selection": "by select or ignore",
    "comment": "by # gradscope: ignore",
    "baseline": "of the baseline",
}


class _Row:
    """One row of the table.

    Args:
        word: What it is.
        text: Beside that.
        height: Lines that the text takes.
    """

    def __init__(self, word: Text, text: Text, height: int) -> None:
        self.word, self.text, self.height = word, text, height


class AnswerRows:
    """The answers of a report, laid out for a console.

    Args:
        report: What the analyses found.
        console: Where they are to be printed.
        marks: The symbols that it can show.
    """

    def __init__(self, report: Report, console: Console, marks: Symbols) -> None:
        self._report = report
        self._console = console
        self._marks = marks
        symbols: dict[Severity, str] = {"problem": marks.problem, "warning": marks.warning, "note": marks.note}
        self._words = {known: Text(f"{symbols[known]} {known}", style=style) for known, style in _STYLE.items()}
        shown = [self._words[answer.severity].cell_len for answer in report.answers]
        self._width = max(1, console.width - max(shown, default=1) - 1)

    def all(self) -> RenderableType | None:
        """Every answer in full."""
        rows = [self._row(answer, self._full(answer)) for answer in self._report.answers]
        return self._table([*rows, *self._remarks()])

    def first(self) -> RenderableType | None:
        """As many as fit, one a line to change, the most harmful first; then in how many there is more to read."""
        groups, remarks = answers_by_cause(self._report.answers), self._remarks()
        room = ROWS - sum(row.height for row in remarks)
        rows, is_brief = self._fitting(groups, room)
        if is_brief or len(rows) < len(self._report.answers):
            rows, is_brief = self._fitting(groups, room - 1)
        left = Counter(answer.severity for answer in self._report.answers)
        left.subtract(first.severity for first, *_ in groups[: len(rows)])
        more = ", ".join(counted(left[known], f"more {known}") for known in _STYLE if left[known])
        more = more or ("what to do about these" if is_brief else "")
        pointer = [self._dim(f"{more} (--all-answers)")] if more else []
        return self._table([*rows, *pointer, *remarks])

    def in_short(self) -> RenderableType | None:
        """Problems and warnings, one a line to change and each on one line: where, and how the sentence begins."""
        groups = [group for group in answers_by_cause(self._report.answers) if group[0].severity != "note"]
        answers = [answer for answer, *_ in groups[:IN_SHORT]]
        places = [_line_to_change(answer) for answer in answers]
        beside = self._width - max(map(len, places), default=0) - 1
        grid = Table.grid(padding=(0, 1, 0, 0))
        for answer, place in zip(answers, places, strict=True):
            code = f" [{answer.code}]"
            words = safe(" ".join(answer.text.split())).removeprefix(f"Line {place.rpartition(':')[2]}: ")
            sentence = cut_to(Text(words), max(beside - len(code), 1), self._marks.dots)
            grid.add_row(self._words[answer.severity], Text(place, style="bold"), sentence.append(code, style="dim"))
        if len(groups) > IN_SHORT:
            grid.add_row(Text(self._marks.dots, style="dim"), "", Text(f"{len(groups) - IN_SHORT} more", style="dim"))
        return grid if groups else None

    def _fitting(self, groups: Sequence[Sequence[Answer]], room: int) -> tuple[list[_Row], bool]:
        """Rows that take at most so many lines, and whether any lacks what to do about it.

        The first has it; then as many as fit are shown without; then they get it in turn.
        """
        briefs = [self._row(first, self._brief(first, others)) for first, *others in groups[:ROWS]]
        fulls = [self._row(first, self._full(first, others)) for first, *others in groups[:ROWS]]
        rows: list[_Row] = []
        for full, brief in zip(fulls, briefs, strict=True):
            row = full if not rows and full.height <= room else brief
            if sum(row.height for row in rows) + row.height > room:
                break
            rows.append(row)
        if groups and not rows:
            return [self._cut(briefs[0], room)], True
        for at, full in enumerate(fulls[: len(rows)]):
            if sum(row.height for row in rows) - rows[at].height + full.height <= room:
                rows[at] = full
        return rows, any(row is not full for row, full in zip(rows, fulls, strict=False))

    def _full(self, answer: Answer, others: Sequence[Answer] = ()) -> Text:
        return self._sentence(answer, answer.text).append_text(self._code(answer, others))

    def _brief(self, answer: Answer, others: Sequence[Answer]) -> Text:
        sentence = self._sentence(answer, answer.text.removesuffix(answer.advice).rstrip())
        if answer.advice:
            sentence.append(f" {self._marks.dots}", style="dim")
        return sentence.append_text(self._code(answer, others))

    def _sentence(self, answer: Answer, words: str) -> Text:
        """A sentence, in which the line to change stands out."""
        text = Text(safe(words))
        if answer.causes:
            text.highlight_regex(re.compile(rf"\b[Ll]ine {re.escape(str(answer.causes[0].line))}\b"), "bold")
        return text

    def _code(self, answer: Answer, others: Sequence[Answer]) -> Text:
        text = Text.assemble(" ", (f"[{answer.code}]", "dim"))
        if others:
            codes = Counter(other.code for other in others)
            alike = (f"{code} {self._marks.times}{count}" if count > 1 else code for code, count in codes.items())
            text.append(f" line {answer.causes[0].line} also: {', '.join(alike)}", style="dim")
        return text

    def _remarks(self) -> list[_Row]:
        by = Counter(one.by for one in self._report.suppressed)
        counts = ", ".join(f"{by[reason]} {words}" for reason, words in _SUPPRESSED_BY.items() if by[reason])
        suppressed = [self._dim(f"not shown: {counts}")] if counts else []
        warned = [self._line(Text(self._marks.warning, style="yellow"), safe(one)) for one in self._report.remarks]
        return suppressed + warned

    def _row(self, answer: Answer, text: Text) -> _Row:
        return self._measured(self._words[answer.severity], text)

    def _dim(self, text: str) -> _Row:
        return self._line(Text(self._marks.dots, style="dim"), text)

    def _line(self, word: Text, text: str) -> _Row:
        return self._measured(word, Text(text, style="dim"))

    def _measured(self, word: Text, text: Text) -> _Row:
        return _Row(word, text, len(text.wrap(self._console, self._width, overflow="fold")))

    def _cut(self, row: _Row, room: int) -> _Row:
        if row.height <= room:
            return row
        lines = row.text.wrap(self._console, self._width, overflow="fold")[: max(1, room)]
        last = lines.pop()
        last.append(self._marks.dots * self._width)
        lines.append(cut_to(last, self._width, self._marks.dots))
        return self._measured(row.word, Text("\n").join(lines))

    def _table(self, rows: Sequence[_Row]) -> RenderableType | None:
        if not rows:
            return None
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(max_width=self._width, overflow="fold")
        for row in rows:
            grid.add_row(row.word, row.text)
        return grid


def _line_to_change(answer: Answer) -> str:
    """As terminals and editors open it: ``train.py:12``."""
    where = answer.causes[0] if answer.causes else answer.place
    return f"{safe(os.path.normpath(where.file))}:{where.line:d}" if where is not None and where.line else ""
