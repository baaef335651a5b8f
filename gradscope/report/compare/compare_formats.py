"""A comparison as data and as documents: JSON, JSON Lines, CSV, Markdown, SVG."""

from __future__ import annotations

import html
import json
from dataclasses import asdict
from io import StringIO

from gradscope.analysis.comparison.comparison_model import Cell, Comparison, Row
from gradscope.report.compare.compare_cells import label_text, plain
from gradscope.report.compare.compare_screen import footer, marks_rows, render_comparison
from gradscope.report.compare.parting_text import TITLE, parting_sentences
from gradscope.report.json_values import plain as plain_json
from gradscope.report.run.csv_format import write_table
from gradscope.report.screen.picture import drawing_console, picture
from gradscope.report.screen.plain_text import DOCUMENT_WIDTH, plain_text
from gradscope.report.screen.text import UNICODE, safe

FORMAT, VERSION = "gradscope-comparison", 1
"""Of the JSON. 1: the first; keys are only ever added."""


def as_json(comparison: Comparison) -> str:
    """The whole model, sizes in bytes and times in nanoseconds."""
    return (
        json.dumps(plain_json(_head(comparison) | asdict(comparison)), indent=2, ensure_ascii=False, allow_nan=False)
        + "\n"
    )


def _head(comparison: Comparison) -> dict[str, object]:
    outcome = "different" if comparison.differs else "same"
    return {"format": FORMAT, "version": VERSION, "outcome": outcome}


def as_jsonl(comparison: Comparison) -> str:
    """One line a row; the first line says what the columns are."""
    names = [variant.name for variant in comparison.variants]
    lines: list[dict[str, object]] = [_head(comparison) | {"target": comparison.target, "variants": names}]
    lines += [{"group": group.title} | asdict(row) for group in comparison.groups for row in group.rows]
    return "".join(json.dumps(plain_json(line), ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def as_csv(comparison: Comparison) -> str:
    """One line a row, one column a variant; a cell without a value is empty."""
    stream = StringIO()
    header = ["group", "fact", "name", "unit", "differs", *(variant.name for variant in comparison.variants)]
    rows = (
        [group.title, row.fact, row.name, row.unit, row.differs, *(cell.value for cell in row.cells)]
        for group in comparison.groups
        for row in group.rows
    )
    write_table(header, rows, stream)
    return stream.getvalue()


def as_markdown(comparison: Comparison) -> str:
    """A table a group: variants are rows, so that many of them can be read."""
    lines = [f"# {escaped(comparison.target)}", ""]
    if comparison.title:
        lines += [escaped(comparison.title), ""]
    if not comparison.differs:
        lines += ["Nothing differs.", ""]
    if comparison.parting is not None:
        lines += [f"## {TITLE}", "", *(f"- {escaped(text)}" for text in parting_sentences(comparison.parting)), ""]
    return "\n".join([*lines, *markdown_groups(comparison), escaped(footer(comparison, UNICODE)), ""])


def markdown_groups(comparison: Comparison) -> list[str]:
    """The lines of the groups, each with its title."""
    marked = marks_rows(comparison)
    lines = []
    for group in comparison.groups:
        lines += [f"## {escaped(group.title)}", ""]
        lines.append(_line(["", *(escaped(label_text(row, UNICODE, marked).plain) for row in group.rows)]))
        lines.append(_line(["---"] * (len(group.rows) + 1)))
        for at, variant in enumerate(comparison.variants):
            name = f"{escaped(variant.name)}{' (baseline)' if at == comparison.baseline else ''}"
            lines.append(_line([name, *(_markdown_cell(row, row.cells[at]) for row in group.rows)]))
        lines.append("")
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(row: Row, cell: Cell) -> str:
    text = escaped(plain(row, cell, "–"))
    return f"**≠ {text}**" if cell.differs else text


def escaped(text: str) -> str:
    """Text of a program as Markdown and HTML show it, not as they obey it."""
    escaped = html.escape(safe(text), quote=False).replace("\\", "\\\\")
    for character in "|*_`[]#":
        escaped = escaped.replace(character, f"\\{character}")
    return escaped


def as_text(comparison: Comparison, width: int | None = None) -> str:
    """The table without colour."""
    return plain_text(render_comparison, comparison, width)


def as_svg(comparison: Comparison, width: int | None = None) -> str:
    """A picture of the table."""
    console = drawing_console(width or DOCUMENT_WIDTH)
    render_comparison(comparison, console)
    return picture(console, safe(f"gradscope compare {comparison.target}"))
