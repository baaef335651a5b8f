"""Columns of text that fit a width: narrower ones first give way, and the least important are left out last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.table import Table
from rich.text import Text

from gradscope.report.screen.text import Symbols, cut_to

GAP = 2
"""Cells between columns."""
LEAST = 6
"""Cells of a column on a screen on which nothing fits."""


class Column(NamedTuple):
    """One column of a table."""

    title: str
    justify_right: bool = False
    minimum: int = 0
    """Cells below which it is not narrowed; 0: never narrowed."""
    keeps_end: bool = False
    """Where it is narrowed, the end of a text stays (paths: ``…conv1.weight``)."""
    wraps: bool = False
    """Long text goes on in a second line, rather than being cut."""


def fit(columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int) -> list[int]:
    """Widths of columns, so that all together they take at most ``width`` cells.

    Columns without any text get width 0 and are to be left out. Where it does not fit, the widest of the columns that
    may be narrowed are, and only then the others.
    """
    natural = [max([0, *(row[at].cell_len for row in cells)]) for at in range(len(columns))]
    widths = [max(size, len(column.title)) if size else 0 for size, column in zip(natural, columns, strict=True)]
    excess = total(widths) - width
    wanted = [column.minimum or size for column, size in zip(columns, widths, strict=True)]
    for least in (wanted, [LEAST] * len(columns)):
        while excess > 0:
            wider = [at for at, size in enumerate(widths) if size > least[at]]
            if not wider:
                break
            widths[max(wider, key=widths.__getitem__)] -= 1
            excess -= 1
    return widths


def total(widths: Sequence[int]) -> int:
    """Cells of a table with columns of these widths, the gaps included."""
    return sum(widths) + GAP * max(0, sum(size > 0 for size in widths) - 1)


def narrowed(column: Column, cell: Text, width: int, marks: Symbols) -> Text:
    """A cell as it is shown in a column of a width."""
    if column.wraps:
        return cell
    return cut_to(cell, width, marks.dots, keep_end=column.keeps_end)


def table(
    columns: Sequence[Column], cells: Sequence[Sequence[Text]], width: int, marks: Symbols, header: bool = True
) -> Table:
    """A table without lines, fitted to a width."""
    widths = fit(columns, cells, width)
    shown = [at for at, size in enumerate(widths) if size]
    grid = Table(box=None, show_header=header, pad_edge=False, padding=(0, GAP, 0, 0), header_style="dim")
    for at in shown:
        justify: Literal["left", "right"] = "right" if columns[at].justify_right else "left"
        grid.add_column(
            Text(columns[at].title), width=widths[at], justify=justify, no_wrap=not columns[at].wraps, overflow="fold"
        )
    for row in cells:
        grid.add_row(*(narrowed(columns[at], row[at], widths[at], marks) for at in shown))
    return grid
