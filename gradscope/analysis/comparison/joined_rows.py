"""Rows that say the same of many parameters of one object, as one row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradscope.analysis.comparison.comparison_model import Row

Placed = tuple[str, Row]
"""A group's title, and a row of it."""

FEW = 3
"""Rows that are left as they are."""


def together(rows: Sequence[Placed]) -> list[Placed]:
    """Put rows of one fact about paths from one name (``encoder.0.weight``) together where all cells are the same."""
    alike: dict[tuple[object, ...], list[Placed]] = {}
    for group, row in rows:
        alike.setdefault((group, *_key(row)), []).append((group, row))
    result: list[Placed] = []
    for found in alike.values():
        result += found if len(found) < FEW else [(found[0][0], _one([row for _, row in found]))]
    return result


def _key(row: Row) -> tuple[object, ...]:
    """Equal for rows that may be put together; a row about no path is like none."""
    root = _root(row.name)
    if root == row.name or row.fact in ("watch", "time", "line"):
        return (row.fact, row.name, row.label)
    return (row.fact, root, row.cells)


def _root(name: str) -> str:
    """The name that a path begins with."""
    return name.partition(".")[0].partition("[")[0]


def _one(rows: Sequence[Row]) -> Row:
    first = rows[0]
    fact = first.label.removeprefix(first.name)
    pattern = f"{_root(first.name)}.*"
    names = tuple(row.name for row in rows)
    return replace(first, name=pattern, names=names, label=f"{pattern} ({len(rows)}){fact}")
