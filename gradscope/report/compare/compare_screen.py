"""The screen of ``compare``: variants side by side, in groups of facts."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.text import Text

from gradscope.analysis.comparison.comparison_model import Comparison, Group, Row
from gradscope.report.compare.compare_cells import cell_text, label_text, variant_text
from gradscope.report.compare.compare_layout import draw, is_long, split, total, wanted
from gradscope.report.compare.parting_text import TITLE, parting_sentences
from gradscope.report.run.summary import counted
from gradscope.report.screen.text import Symbols, allow_any_text, safe, safe_line, symbols

LAST_LINES = 6
DIED = ("interrupted", "signal", "crash", "timeout", "output")

FEW = 3
"""Variants that always stand in columns."""


def render_comparison(comparison: Comparison, console: Console) -> None:
    """Print a comparison; the console's width, colours and encoding are respected."""
    allow_any_text(console)
    for part in CompareScreen(comparison, console.width, symbols(console)).parts():
        console.print(part, soft_wrap=False, highlight=False, markup=False, emoji=False)


def render_printed(comparison: Comparison, console: Console, *, everything: bool = False) -> None:
    """Print what variants wrote: the end of what those did that died, or everything that all did."""
    for variant in comparison.variants:
        name = safe(variant.name)
        lines = variant.output.rstrip("\n").split("\n") if variant.output.strip() else []
        if lines and (everything or variant.outcome in DIED):
            shown = lines if everything else lines[-LAST_LINES:]
            left = f", the last {LAST_LINES} lines (--printed shows all)" if len(shown) < len(lines) else ""
            console.print(Text(f"\n{name} printed{left}:", style="bold"), soft_wrap=True)
            for line in shown:
                console.print(Text("  " + safe_line(line)), soft_wrap=True, highlight=False)
        elif variant.line:
            console.print(Text(f"{name} raised at line {variant.line} (--printed shows where from)", style="dim"))


class CompareScreen:
    """One comparison at one width."""

    def __init__(self, comparison: Comparison, width: int, marks: Symbols) -> None:
        self._comparison = comparison
        self._width = width
        self._marks = marks
        self._mark_rows = marks_rows(comparison)

    def parts(self) -> Iterator[RenderableType]:
        """What is printed, in order."""
        yield self._header()
        if self._comparison.summary is not None:
            yield from self._in_short(self._comparison.summary)
            return
        parting = self._comparison.parting
        if parting is not None:
            yield Text(f"\n{TITLE}", style="bold underline")
            yield Text("\n".join(map(safe, parting_sentences(parting))))
        groups = self._comparison.groups
        if not self._comparison.differs:
            yield Text("Nothing differs." if parting is None else "\nNothing else differs.")
        if groups and self._fits_in_columns():
            yield draw(self._columns(), self._width)
        else:
            for group in groups:
                yield Text(f"\n{safe(group.title)}", style="bold underline")
                yield from self.rows_of(group)
        yield Text(f"\n{footer(self._comparison, self._marks)}", style="dim")

    def _in_short(self, summary: Group) -> Iterator[RenderableType]:
        """The code that was run, the facts that say most, and where the others are."""
        for line in self._comparison.code:
            yield Text(f"  {safe_line(line)}", style="italic")
        if self._comparison.code:
            yield Text("")
        yield from self.rows_of(summary)
        same = any(cell.value == "same" for row in summary.rows for cell in row.cells)
        others = [safe(group.title) for group in self._comparison.groups if group is not summary]
        parts = ["same: no second tensor, the result is the source"] if same else []
        parts.append(f"more: --all, or --group {'|'.join(others)}")
        yield Text(
            "; ".join([*parts, *_differs_from(self._comparison, self._marks), *_torch(self._comparison)]), style="dim"
        )

    def _header(self) -> Text:
        comparison = self._comparison
        text = Text.assemble(("gradscope compare", "bold"), " ", (safe(comparison.target), "bold"))
        return text.append(f"  {safe(comparison.title)}", style="italic") if comparison.title else text

    def _names(self) -> list[Text]:
        baseline = self._comparison.baseline
        return [variant_text(one, at == baseline) for at, one in enumerate(self._comparison.variants)]

    # Variants as columns

    def _columns(self) -> list[list[Text]]:
        """A column of labels and one a variant; a group's title is a row of its own."""
        marks = self._marks
        columns = [[name] for name in (Text(""), *self._names())]
        for number, group in enumerate(self._comparison.groups):
            if number:
                for column in columns:
                    column.append(Text(""))
            for at, column in enumerate(columns):
                column.append(Text("" if at else safe(group.title), style="" if at else "bold underline"))
                for row in group.rows:
                    is_label = at == 0
                    column.append(
                        label_text(row, marks, self._mark_rows)
                        if is_label
                        else cell_text(row, row.cells[at - 1], marks)
                    )
        return columns

    def _fits_in_columns(self) -> bool:
        columns = self._columns()
        return len(columns) - 1 <= FEW or total([wanted(column) for column in columns]) <= self._width

    # Variants as rows

    def rows_of(self, group: Group) -> Iterator[RenderableType]:
        """Short facts in a table or several; then each fact that takes long text, equal texts once."""
        names = [Text(""), *self._names()]
        columns = {row: self._column(row) for row in group.rows}
        short = [column for column in columns.values() if not is_long(column)]
        tables: list[RenderableType] = (
            [draw(part, self._width) for part in split([names, *short], self._width)] if short else []
        )
        tables += [self._texts(row) for row, column in columns.items() if is_long(column)]
        for number, table in enumerate(tables):
            if number:
                yield Text("")
            yield table

    def _column(self, row: Row) -> list[Text]:
        marks = self._marks
        return [label_text(row, marks, self._mark_rows), *(cell_text(row, cell, marks) for cell in row.cells)]

    def _texts(self, row: Row) -> RenderableType:
        """One row for each text that there is, with the variants that have it."""
        having: dict[str, tuple[Text, list[str]]] = {}
        for variant, cell in zip(self._comparison.variants, row.cells, strict=True):
            if cell.kind != "missing":
                text = cell_text(row, cell, self._marks)
                having.setdefault(text.plain, (text, []))[1].append(safe(variant.name))
        names = [Text(""), *(Text(", ".join(names), style="bold cyan") for _, names in having.values())]
        return draw(
            [names, [label_text(row, self._marks, self._mark_rows), *(text for text, _ in having.values())]],
            self._width,
        )


def footer(comparison: Comparison, marks: Symbols) -> str:
    """What the tables left out, and what their marks mean."""
    parts = [counted(len(comparison.variants), "variant")]
    if comparison.rows_left_out:
        parts.append(f"{counted(comparison.rows_left_out, 'row')} the same in all (--all shows them)")
    parts += _differs_from(comparison, marks)
    if marks_rows(comparison):
        parts.append(f"{marks.differs} differs between variants")
    if any(row.fact == "memory" for group in comparison.groups for row in group.rows):
        parts.append('"x\'s": the memory or version counter of x; "is x": the same tensor')
    if comparison.repeat:
        parts.append(f"times: median of {comparison.repeat}, spread between the quartiles")
    return "; ".join([*parts, *_torch(comparison)])


def marks_rows(comparison: Comparison) -> bool:
    """Whether rows that differ are marked: where there is no baseline, and rows that agree are shown as well."""
    rows = [row for group in comparison.groups for row in group.rows if row.fact not in ("watch", "time")]
    return comparison.baseline is None and any(not row.differs for row in rows)


def _differs_from(comparison: Comparison, marks: Symbols) -> list[str]:
    if comparison.baseline is None:
        return []
    return [f"{marks.differs} differs from {safe(comparison.variants[comparison.baseline].name)}"]


def _torch(comparison: Comparison) -> list[str]:
    return [f"torch {safe(comparison.torch)}"] if comparison.torch else []
