"""Doing what ``gradscope report`` was asked to with several recordings: those of the processes of one job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope.analysis.view import RunView
from gradscope.cli.merged_recordings import merged_recordings
from gradscope.cli.options.output_options import Output
from gradscope.cli.output.delivery import deliver
from gradscope.cli.recording_files import recording_files
from gradscope.errors import ExitCode
from gradscope.report.ranks.ranks_screen import render_ranks


def report_ranks(paths: Sequence[Path], view: RunView, output: Output) -> ExitCode:
    """Show recordings together, each read once.

    Raises:
        GradscopeError: One cannot be read, or they are not of one job.
    """
    merged = merged_recordings(recording_files(paths), view)
    return deliver(
        output,
        "ranks",
        table=lambda console: render_ranks(merged, console),
        text=lambda format: format.writer("ranks")(merged),
    )
