"""Rows of the line table for statements that ran inside backward passes only."""

from __future__ import annotations

from gradscope.analysis.facts.statement_counts.inside_runs import InsideRun, ran_inside_only
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import LineRow
from gradscope.analysis.wording import listed
from gradscope.recording import NONE


def with_inside_rows(index: Index, runs: StatementRuns, rows: tuple[LineRow, ...]) -> tuple[LineRow, ...]:
    """The rows of a table with one for each of these: what it called is all that is known of it."""
    inside = [_row(index, one) for one in ran_inside_only(index, runs)]
    if not inside:
        return rows
    files = {file.name: number for number, file in reversed(list(enumerate(index.recording.files)))}
    return tuple(sorted((*rows, *inside), key=lambda row: (files.get(row.file, NONE), row.line)))


def _row(index: Index, one: InsideRun) -> LineRow:
    place = index.place(one.statement)
    return LineRow(
        file=place.file,
        line=place.line,
        end_line=place.end_line,
        function=place.function,
        source=place.source,
        kind="call",
        op=one.functions[-1],
        executions=one.times,
        name="",
        names=(),
        temporaries=0,
        shape="",
        dtype="",
        device="",
        type_name="",
        requires_grad=None,
        requires_grad_before=None,
        requires_grad_why="",
        is_leaf=None,
        grad_fn="",
        storage="",
        alias_of="",
        offset=0,
        version=None,
        version_before=None,
        allocated_bytes=0,
        saved_bytes=0,
        saved=(),
        live_bytes=0,
        modes=(),
        notes=(f"ran inside backward ({one.within}), where calls are only counted: {listed(one.functions)}",),
        value="",
        first_op=NONE,
        last_op=NONE,
    )
