"""Which rows of a long line table matter: what the first screen shows."""

from __future__ import annotations

from gradscope.analysis.report_model import LineRow, Report

BIGGEST = 3

_MOST = {"error": 4, "answered": 5, "requires_grad": 3, "cut": 4, "backward": 5, "big": 3, "mode": 2, "alias": 2}
"""Rows of one sort that the first screen has room for, the most telling sorts first."""


def lines_that_matter(report: Report) -> tuple[LineRow, ...]:
    """Rows for the first screen, in the order of the source.

    Errors, what the answers are about, changes of requires_grad, cuts, the backward passes and steps that ran most,
    what allocated and saved the most, modes, and writes to shared memory; a few of each.
    """
    answered = {(answer.place.file, answer.place.line) for answer in report.answers if answer.place is not None}
    sorts = {id(row): _sort(row, answered) for row in report.lines}
    by_saved = sorted(report.lines, key=lambda row: row.saved_bytes, reverse=True)[:BIGGEST]
    by_size = sorted(report.lines, key=lambda row: row.allocated_bytes, reverse=True)[:BIGGEST]
    for row in [*by_saved, *by_size]:
        if row.saved_bytes or row.allocated_bytes:
            sorts[id(row)] = sorts[id(row)] or "big"
    chosen: set[int] = set()
    for sort, most in _MOST.items():
        alike = sorted((row for row in report.lines if sorts[id(row)] == sort), key=_weight, reverse=True)
        statements: dict[tuple[str, int], list[int]] = {}
        for row in alike:
            statements.setdefault((row.file, row.line), []).append(id(row))
        taken: list[int] = []
        for rows in statements.values():  # (with some of its rows one would seem to have done that to those alone)
            taken += rows if len(taken) < most else []
        chosen.update(taken)
    return tuple(row for row in report.lines if id(row) in chosen)


def _weight(row: LineRow) -> tuple[int, int]:
    return row.executions, row.saved_bytes + row.allocated_bytes


def _sort(row: LineRow, answered: set[tuple[str, int]]) -> str:
    if row.kind == "error":
        return "error"
    if (row.file, row.line) in answered:
        return "answered"
    if row.requires_grad_before is not None:
        return "requires_grad"
    if row.kind == "cut" and not row.modes:
        return "cut"
    if row.kind in ("backward", "step"):
        return "backward"
    if row.kind == "mode":
        return "mode"
    return "alias" if row.kind == "changed" and row.alias_of else ""
