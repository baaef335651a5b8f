"""The line table: on a wide screen one row a tensor, on a narrow one the source above the facts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from gradscope.analysis.report_model import LineRow
from gradscope.analysis.worded_lines import short_place
from gradscope.report.run.line_cells import FACTS, Cells
from gradscope.report.screen.layout import GAP, Column, fit, narrowed, table, total
from gradscope.report.screen.text import Symbols, cut_to, safe, source_text

_INDENT = 5
_HEAD = (Column("line"), Column("source", minimum=24))
_NOTE = Column("what happened", minimum=16, wraps=True)
_WIDE = (*_HEAD, *FACTS, _NOTE)
_NOTE_CELLS = 42
"""Cells of a note beside the source: it must not make a row many lines high."""
_Described = tuple[LineRow, list[Text], Text]
"""A row with its facts and what happened."""
_STACKED = tuple(column._replace(title=column.title.replace("requires_grad", "req.grad")) for column in FACTS)
_NARROWER = (*_HEAD, *_STACKED, _NOTE)


class ShownLines:
    """Renders line rows.

    Args:
        rows: What to show, in order.
        width: Cells of the screen.
        marks: Symbols.
        memory: Show what was in use after each line as well; False: no bytes at all.
    """

    def __init__(self, rows: Sequence[LineRow], width: int, marks: Symbols, memory: bool | None) -> None:
        self._width = width
        self._marks = marks
        self._files = {row.file for row in rows}
        self._digits = max((cell_len(self._line(row)) for row in rows), default=1)
        kinds = Counter((row.dtype, row.device) for row in rows if row.dtype)
        self.usual = kinds.most_common(1)[0][0] if kinds else ("", "")
        """dtype and device of most rows: said once, under the table."""
        cells = Cells(marks, self.usual, memory)
        described = _telling([(row, cells.facts(row), cells.note(row)) for row in rows])
        self._rows = [row for row, _, _ in described]
        self._facts = [facts for _, facts, _ in described]
        self._notes = [note for _, _, note in described]

    def render(self) -> RenderableType:
        """The table in the form that the width allows."""
        notes = [cut_to(note, _NOTE_CELLS, self._marks.dots) for note in self._notes]
        cells = [[*self._head(at), *self._facts[at], notes[at]] for at in range(len(self._rows))]
        columns = _WIDE if total(fit(_WIDE, cells, width=1_000_000)) <= self._width else _NARROWER
        natural = fit(columns, cells, width=1_000_000)
        narrow = ("source", "what happened")
        least = [
            min(cells, column.minimum) if column.title in narrow else cells
            for cells, column in zip(natural, columns, strict=True)
        ]
        if total(least) <= self._width:
            return table(columns, cells, self._width, self._marks)
        return self._stacked()

    def _head(self, at: int) -> list[Text]:
        """Line with the number of runs, and source; empty for a further row of the same statement."""
        row = self._rows[at]
        if at and _statement(self._rows[at - 1]) == _statement(row):
            return [Text(""), Text("")]
        line = Text(self._line(row).rjust(self._digits), style="dim")
        if row.executions > 1:
            line.append(f" {self._marks.times}{row.executions:,}", style="magenta")
        return [line, source_text(row.source, self._marks)]

    def _line(self, row: LineRow) -> str:
        return f"{row.line:d}" if len(self._files) == 1 else safe(short_place(row.file, row.line))

    def _stacked(self) -> RenderableType:
        """Each statement's source with what happened, and under it a row for each tensor."""
        rows = self._labelled()
        widths = fit(_STACKED, rows, self._width - _INDENT)
        heads = [self._head(at) for at in range(len(rows))]
        header = self._fact_line([Text(column.title) for column in _STACKED], widths)
        header.stylize("dim")
        parts: list[RenderableType] = [header]
        for at, head in enumerate(heads):
            if head[0].plain:
                parts += self._source_line(head, self._notes_from(at))
            if any(cell.plain for cell in rows[at]):
                parts.append(self._fact_line(rows[at], widths))
        return Group(*parts)

    def _labelled(self) -> list[list[Text]]:
        """The facts of the rows; of those without a tensor that one statement has several of, what they are of."""
        bare = [not facts[0].plain and any(cell.plain for cell in facts) for facts in self._facts]
        alike = Counter(_statement(row) for row, is_bare in zip(self._rows, bare, strict=True) if is_bare)
        return [
            [Text(row.kind, style="dim"), *facts[1:]] if is_bare and alike[_statement(row)] > 1 else facts
            for row, facts, is_bare in zip(self._rows, self._facts, bare, strict=True)
        ]

    def _notes_from(self, at: int) -> Text:
        """What happened in all rows of the statement that starts at a row."""
        joined: dict[str, Text] = {}
        for row, note in zip(self._rows[at:], self._notes[at:], strict=True):
            if _statement(row) != _statement(self._rows[at]):
                break
            for part in note.split("; "):
                joined.setdefault(part.plain, part)
        return Text("; ").join(note for plain, note in joined.items() if plain)

    def _source_line(self, head: list[Text], note: Text) -> list[RenderableType]:
        line = Text.assemble(head[0], "  ", no_wrap=True)
        line.append_text(cut_to(head[1], self._width - line.cell_len, self._marks.dots))
        if not note.plain:
            return [line]
        if line.cell_len + 3 + note.cell_len <= self._width:
            return [line.append("   ").append_text(note)]
        return [line, Padding(note, (0, 0, 0, _INDENT), expand=False)]

    def _fact_line(self, cells: list[Text], widths: list[int]) -> Text:
        line = Text(" " * _INDENT, no_wrap=True)
        for column, cell, width in zip(_STACKED, cells, widths, strict=True):
            if not width:
                continue
            shown = narrowed(column, cell, width, self._marks)
            space = " " * (width - shown.cell_len + (0 if column.justify_right else GAP))
            line.append_text(Text.assemble(space, shown, " " * GAP) if column.justify_right else shown)
            line.append("" if column.justify_right else space)
        line.rstrip()
        return line


def _telling(described: list[_Described]) -> list[_Described]:
    """The rows that say something, and one of a statement whose rows do not: ``.grad`` was read, say."""
    rows = Counter(_statement(row) for row, _, _ in described)
    kept: list[_Described] = []
    for row, facts, note in described:
        says = bool(note.plain) or any(cell.plain for cell in facts)
        rows[_statement(row)] -= not says
        if says or not rows[_statement(row)]:
            kept.append((row, facts, note))
    return kept


def _statement(row: LineRow) -> tuple[str, int]:
    return row.file, row.line
