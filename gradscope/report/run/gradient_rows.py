"""The table of ``--gradients``: how large each leaf's gradients were, with a small plot over the passes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from gradscope.analysis.report_model import GradientNorms
from gradscope.report.run.summary import counted
from gradscope.report.screen.layout import Column, table
from gradscope.report.screen.text import UNICODE, Symbols, safe

_COLUMNS = (
    Column("leaf", minimum=14, keeps_end=True),
    Column("shape", minimum=6),
    Column("first", justify_right=True),
    Column("last", justify_right=True),
    Column("least", justify_right=True),
    Column("most", justify_right=True),
    Column("plot", minimum=8),
    Column("seen", wraps=True, minimum=10),
)
_BARS, _ASCII_BARS = "▁▂▃▄▅▆▇█", ".:-=+*#@"
_ZERO, _NOT_FINITE = "0", "!"
_DECADES = 0.5
"""Powers of ten that a plot spans at least: less is told by numbers alone."""


def gradient_rows(rows: Sequence[GradientNorms], width: int, marks: Symbols, limit: int) -> Iterator[RenderableType]:
    """The table, and below it what was looked at.

    Args:
        rows: The leaves.
        width: Cells of the screen.
        marks: Symbols.
        limit: Rows that are shown.
    """
    scale = _scale(rows)
    cells = [_cells(row, scale, marks) for row in rows[:limit]]
    yield table(_COLUMNS, cells, width, marks)
    if len(rows) > limit:
        yield Text(f"{marks.dots} {counted(len(rows) - limit, 'more leaf', 'more leaves')} (--all)", style="dim")
    yield Text(_legend(rows, scale, marks), style="dim")


def looked_at(rows: Sequence[GradientNorms], passes: int) -> str:
    """How many of the run's passes the table is about."""
    seen = {number for row in rows for number in row.passes}
    return f"{len(seen):,} of {counted(passes, 'backward pass', 'backward passes')} looked at"


def _cells(row: GradientNorms, scale: tuple[float, float], marks: Symbols) -> list[Text]:
    looks = len(row.sizes)
    seen = [
        f"zero in {_count(row.zero, looks)}" if row.zero else "",
        f"not finite in {_count(row.not_finite, looks)}" if row.not_finite else "",
    ]
    style = "bold red" if row.not_finite else "yellow" if row.zero else ""
    return [
        Text(safe(row.name), style="bold"),
        Text(safe(row.shape), style="dim"),
        Text(_number(row.sizes[0])),
        Text(_number(row.sizes[-1])),
        Text(_number(row.least)),
        Text(_number(row.most)),
        Text(_plot(row, scale, marks), style="cyan"),
        Text(", ".join(filter(None, seen)), style=style),
    ]


def _count(count: int, of: int) -> str:
    return f"all {of}" if count == of and of > 1 else f"{count} of {of}"


def _number(size: float | None) -> str:
    return "" if size is None else f"{size:.2g}"


def _scale(rows: Sequence[GradientNorms]) -> tuple[float, float]:
    """The powers of ten that all plots go from and to."""
    sizes = [math.log10(size) for row in rows for size in row.sizes if math.isfinite(size) and size > 0]
    low, high = min(sizes, default=0.0), max(sizes, default=0.0)
    return (low, high) if high - low >= _DECADES else (high - _DECADES, high)


def _plot(row: GradientNorms, scale: tuple[float, float], marks: Symbols) -> str:
    """A bar for each look."""
    bars = _BARS if marks.dots == UNICODE.dots else _ASCII_BARS
    return "".join(_bar(size, scale, bars) for size in row.sizes)


def _bar(size: float, scale: tuple[float, float], bars: str) -> str:
    if not math.isfinite(size):
        return _NOT_FINITE
    if not size:
        return _ZERO
    low, high = scale
    return bars[round((math.log10(size) - low) / (high - low) * (len(bars) - 1))]


def _legend(rows: Sequence[GradientNorms], scale: tuple[float, float], marks: Symbols) -> str:
    is_norm = all(row.measure == "norm" for row in rows)
    what = "2-norms of the gradients" if is_norm else "largest elements of the gradients, without their sign"
    low, high = (f"{10**end:.1g}" for end in scale)
    passes = sorted({number for row in rows for number in row.passes})
    which = ", ".join(map(str, passes[:12])) + (f" {marks.dots}" if len(passes) > 12 else "")
    one = "pass" if len(passes) == 1 else "passes"
    plot = f"plot: {one} {which}; from {low} to {high} for all rows, by powers of ten"
    zeros = f", {_ZERO} is zero" if any(row.zero for row in rows) else ""
    bad = f", {_NOT_FINITE} is NaN or infinite" if any(row.not_finite for row in rows) else ""
    return f"{what}; {plot}{zeros}{bad}"
