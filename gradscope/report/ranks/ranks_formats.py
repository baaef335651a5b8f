"""Several ranks' recordings as text and as JSON."""

from __future__ import annotations

from io import StringIO

from gradscope.analysis.comparison.merged_ranks import MergedRanks
from gradscope.report.json_values import write_object
from gradscope.report.ranks.ranks_screen import render_ranks
from gradscope.report.screen.plain_text import plain_text

FORMAT, VERSION = "gradscope-ranks", 1
"""Of the JSON. 1: the first; keys are only ever added."""


def as_json(merged: MergedRanks) -> str:
    """Everything, sizes in bytes."""
    outcome = "ok" if all(row.run.outcome == "ok" and not row.run.exit_code for row in merged.ranks) else "failed"
    stream = StringIO()
    write_object({"format": FORMAT, "version": VERSION, "outcome": outcome} | merged._asdict(), stream)
    return stream.getvalue()


def as_text(merged: MergedRanks, width: int | None = None) -> str:
    """The screen without colour."""
    return plain_text(render_ranks, merged, width)
