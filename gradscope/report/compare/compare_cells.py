"""What a cell of a comparison says, as text for people."""

from __future__ import annotations

import re

from rich.text import Text

from gradscope.analysis.comparison.comparison_model import Cell, Row, Variant
from gradscope.analysis.sizes import size
from gradscope.report.screen.text import Symbols, safe

_DIGITS = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
_MEANING = {"silently wrong": "bold red", "raises": "yellow", "refused": "yellow", "right": "green"}
"""Words of a built-in comparison that are good or bad, whatever row they stand in."""
_NS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3))


def duration(ns: float) -> str:
    """``1.23 ms``, ``45.6 µs``, ``310 ns``."""
    for unit, factor in _NS:
        if ns >= factor:
            return f"{ns / factor:.3g} {unit}"
    return f"{ns:.0f} ns"


def _rounded(number: re.Match[str]) -> str:
    return f"{float(number[0]):.4g}"


def plain(row: Row, cell: Cell, missing: str) -> str:
    """A cell's text without marks; sizes and times humanised."""
    if cell.kind == "missing":
        return missing
    if isinstance(cell.value, bool) or not isinstance(cell.value, (int, float)):
        return _DIGITS.sub(_rounded, str(cell.value)) if row.fact == "grad" else str(cell.value)
    if row.unit == "bytes":
        return size(int(cell.value))
    return duration(cell.value) if row.unit == "ns" else f"{cell.value:,}"


def cell_text(row: Row, cell: Cell, marks: Symbols) -> Text:
    """A cell, marked where it differs from the baseline."""
    text = Text(safe(plain(row, cell, marks.dash)), style=_style(cell))
    return Text.assemble((f"{marks.differs} ", "bold yellow"), text) if cell.differs else text


def _style(cell: Cell) -> str:
    if cell.kind == "error":
        return "red"
    if cell.value is True:
        return "green"
    if cell.value in _MEANING:
        return _MEANING[str(cell.value)]
    return "dim" if cell.kind == "missing" or cell.value in ("None", "none", 0) else ""


def label_text(row: Row, marks: Symbols, mark: bool) -> Text:
    """A row's label; where rows that agree are shown as well, those that differ are marked."""
    label = Text(safe(row.label), style="bold" if row.differs else "dim")
    return Text.assemble((f"{marks.differs} ", "bold yellow"), label) if mark and row.differs else label


def variant_text(variant: Variant, is_baseline: bool) -> Text:
    """A variant's name."""
    style = "bold red" if variant.outcome not in ("ok", "exit") else "bold cyan"
    text = Text(safe(variant.name), style=style)
    return text.append(" (baseline)", style="dim") if is_baseline else text
