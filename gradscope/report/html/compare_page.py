"""The page of a comparison: a table a group of facts, variants as rows."""

from __future__ import annotations

from typing import Any

from gradscope.analysis.comparison.comparison_model import Cell, Comparison, Group, Row
from gradscope.report.compare.compare_cells import label_text, plain
from gradscope.report.compare.compare_screen import footer, marks_rows
from gradscope.report.html.page import render
from gradscope.report.screen.text import UNICODE

_LOOKS = {"silently wrong": "bad", "raises": "warn", "refused": "warn", "right": "good"}


def as_html(comparison: Comparison) -> str:
    """The page."""
    return render(
        "compare.html.j2",
        title=f"gradscope compare {comparison.target}",
        comparison=comparison,
        groups=[_group(comparison, group) for group in comparison.groups],
        footer=footer(comparison, UNICODE),
    )


def _group(comparison: Comparison, group: Group) -> dict[str, Any]:
    marked = marks_rows(comparison)
    names = [
        f"{variant.name}{' (baseline)' if at == comparison.baseline else ''}"
        for at, variant in enumerate(comparison.variants)
    ]
    return {
        "title": group.title,
        "titles": [label_text(row, UNICODE, marked).plain for row in group.rows],
        "rows": [(name, [_cell(row, row.cells[at]) for row in group.rows]) for at, name in enumerate(names)],
    }


def _cell(row: Row, cell: Cell) -> dict[str, Any]:
    is_good = cell.value is True
    look = "bad" if cell.kind == "error" else "good" if is_good else _LOOKS.get(str(cell.value), "")
    return {"text": plain(row, cell, "–"), "look": look, "differs": cell.differs}
