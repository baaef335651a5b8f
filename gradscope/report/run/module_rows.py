"""The modules of a model as a tree: what each keeps for backward, its parameters, and which of them got gradients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.console import RenderableType
from rich.text import Text

from gradscope.analysis.report_model import ModuleRow
from gradscope.analysis.sizes import size
from gradscope.report.screen.layout import Column, table
from gradscope.report.screen.text import Symbols, safe

_COLUMNS = (
    Column("module", minimum=26),
    Column("class", minimum=8),
    Column("line", minimum=6, keeps_end=True),
    Column("trainable", justify_right=True),
    Column("frozen", justify_right=True),
    Column("got grad"),
    Column("memory", justify_right=True),
    Column("new", justify_right=True),
    Column("saved", justify_right=True),
)
_WIDE = 100
_LEFT_OUT = frozenset(("class", "new"))
"""Columns for which narrower screens have no room."""
_LEGEND = (
    "trainable, frozen: elements of parameters; got grad: parameters that did, of the trainable; memory: of parameters"
    " and their gradients; {}by one pass through the model"
)
_LEAST_CALLS = 16
_LEAST_ROWS = 4
_UNITS = ((10**9, "G"), (10**6, "M"), (10**4, "k"))


def runs_whole_models(rows: Sequence[ModuleRow]) -> bool:
    """Whether a line of the user's runs a model in which no other line of the user's stands."""
    return any(
        len(tree) >= _LEAST_ROWS
        and tree[0].calls >= _LEAST_CALLS
        and len(tree[0].places) == 1
        and all(set(row.places) <= set(tree[0].places) for row in tree)
        for tree in _trees(rows)
    )


def module_rows(rows: Sequence[ModuleRow], width: int, marks: Symbols, limit: int) -> Iterator[RenderableType]:
    """The table, and below it what it says.

    Args:
        rows: The modules.
        width: Cells of the screen.
        marks: Symbols.
        limit: Rows that are shown; the deepest are left out first.
    """
    shown = _fitting(rows, limit)
    at = [at for at, column in enumerate(_COLUMNS) if width >= _WIDE or column.title not in _LEFT_OUT]
    target = next((place.file for row in rows for place in row.places), "")
    cells = [[cells[one] for one in at] for cells in (_cells(row, target, marks) for row in shown)]
    yield table([_COLUMNS[one] for one in at], cells, width, marks)
    if len(shown) < len(rows):
        yield Text(f"{marks.dots} {len(rows) - len(shown)} more inside these (--by module)", style="dim")
    sizes = "new, saved: bytes allocated and kept for backward " if width >= _WIDE else "saved: kept for backward "
    yield Text(_LEGEND.format(sizes), style="dim")


def _trees(rows: Sequence[ModuleRow]) -> Iterator[Sequence[ModuleRow]]:
    starts = [at for at, row in enumerate(rows) if row.depth == 0]
    for at, end in pairwise([*starts, len(rows)]):
        yield rows[at:end]


def _fitting(rows: Sequence[ModuleRow], limit: int) -> Sequence[ModuleRow]:
    deepest = max((row.depth for row in rows), default=0)
    while len(rows) > limit and deepest > 0:
        deepest -= 1
        rows = [row for row in rows if row.depth <= deepest]
    return rows


def _cells(row: ModuleRow, target: str, marks: Symbols) -> list[Text]:
    name = Text("  " * row.depth)
    name.append(safe(row.name), style="bold" if not row.depth else "")
    if row.modules > 1:
        name.append(f" {marks.times}{row.modules:,}", style="magenta")
    lacks = row.with_gradient < row.trainable_tensors
    gradients = f"{row.with_gradient} of {row.trainable_tensors}" if row.trainable_tensors else ""
    memory = row.parameter_bytes + row.gradient_bytes
    return [
        name,
        Text(safe(row.kind), style="dim"),
        Text(safe(_line(row, target)), style="dim"),
        Text(_count(row.trainable)),
        Text(_count(row.frozen), style="cyan"),
        Text(gradients, style="yellow" if lacks else ""),
        Text(size(memory) if memory else ""),
        Text(size(row.allocated_bytes) if row.allocated_bytes else ""),
        Text(size(row.saved_bytes) if row.saved_bytes else "", style="magenta"),
    ]


def _line(row: ModuleRow, target: str) -> str:
    """Where it was called: of several lines the first, and that there are more."""
    if not row.places:
        return ""
    place, more = row.places[0], f" +{len(row.places) - 1}" if len(row.places) > 1 else ""
    return f"{place.line}{more}" if place.file == target else f"{place.file.rpartition('/')[2]}:{place.line:d}{more}"


def _count(elements: int) -> str:
    for unit, name in _UNITS:
        if elements >= unit:
            return f"{elements / (1000 if name == 'k' else unit):.3g}{name}"
    return f"{elements:,}" if elements else ""
