"""Tables of a comparison that fit a width: what is longer than its column goes on in a second line, nothing is cut.

A column is its heading and the cells below it.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

GAP = 2
LONG = 30
"""Cells of the widest column; longer text goes on in further lines."""
LEAST = 10
"""Cells below which no column is narrowed."""

Column = Sequence[Text]


def is_long(column: Column) -> bool:
    """Whether any of its cells takes more than one line."""
    return any(cell.cell_len > LONG for cell in column[1:])


def wanted(column: Column, lines: int = 3) -> int:
    """The width of a column: its cells in one line up to a limit, its heading in a few."""
    return max([_heading(column[0], lines), *(min(cell.cell_len, LONG) for cell in column[1:])])


def _heading(text: Text, lines: int) -> int:
    """The least width at which the words of a heading fit into so many lines."""
    words = [Text(word).cell_len for word in text.plain.split(" ")]
    for width in range(max(words), text.cell_len):
        used, count = 0, 1
        for word in words:
            if used and used + 1 + word > width:
                used, count = 0, count + 1
            used += word + (used > 0)
        if count <= lines:
            return width
    return text.cell_len


def total(widths: Sequence[int]) -> int:
    """Cells of a table, the gaps included."""
    return sum(widths) + GAP * (len(widths) - 1)


def shrink(widths: Sequence[int], width: int) -> list[int]:
    """Take from the widest columns until all fit."""
    shrunk = list(widths)
    while total(shrunk) > width and max(shrunk) > LEAST:
        shrunk[shrunk.index(max(shrunk))] -= 1
    return shrunk


def split(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """As many tables as it takes, each with the first column."""
    parts = [[columns[0]]]
    for column in columns[1:]:
        if len(parts[-1]) > 1 and total([wanted(one) for one in (*parts[-1], column)]) > width:
            parts.append([columns[0]])
        parts[-1].append(column)
    return parts


def draw(columns: Sequence[Column], width: int) -> Table:
    """A table without lines; a last column with long text takes the room that is left."""
    widths = shrink([wanted(column) for column in columns], width)
    if is_long(columns[-1]):
        widths[-1] += max(0, width - total(widths))
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="")
    for column, cells in zip(columns, widths, strict=True):
        table.add_column(column[0], width=cells, overflow="fold", vertical="top")
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*row)
    return table
