"""Doing what ``gradscope report`` was asked to with several recordings: those of the ranks of one job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope.analysis.comparison.merged_ranks import MergedRanks, RankMerger
from gradscope.analysis.report_builder import build
from gradscope.analysis.view import RunView
from gradscope.cli.options.output_options import Output
from gradscope.cli.output.delivery import deliver
from gradscope.errors import ExitCode, UsageError
from gradscope.recording.file.store import load
from gradscope.report.formats import RECORDING_SUFFIX
from gradscope.report.ranks.ranks_screen import render_ranks


def report_ranks(paths: Sequence[Path], view: RunView, output: Output) -> ExitCode:
    """Show recordings together, each read once.

    Raises:
        GradscopeError: One cannot be read, or they are not of one job.
    """
    merged = _merged(_files(paths), view)
    return deliver(
        output,
        "ranks",
        table=lambda console: render_ranks(merged, console),
        text=lambda format: format.writer("ranks")(merged),
    )


def _files(paths: Sequence[Path]) -> list[Path]:
    """The recordings, a folder's among them."""
    found = []
    for path in paths:
        found += sorted(path.glob(f"*{RECORDING_SUFFIX}")) if path.is_dir() else [path]
    if not found:
        raise UsageError(f"there is no recording in {', '.join(map(str, paths))}", "gradscope run -o FILE makes one")
    return found


def _merged(files: list[Path], view: RunView) -> MergedRanks:
    merger, ranks, targets = RankMerger(), set[int](), set[str]()
    for file in files:
        recording = load(file)
        rank = recording.info.rank
        targets.add(recording.info.target)
        if rank in ranks or len(targets) > 1:
            what = f"{file} is a second rank {rank}" if rank in ranks else f"they ran {' and '.join(sorted(targets))}"
            hint = "gradscope compare A B shows what differs between runs"
            raise UsageError(f"these are not the ranks of one run: {what}", hint)
        ranks.add(rank)
        merger.add(str(file), build(recording, view))
    return merger.merged()
