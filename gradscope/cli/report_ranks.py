"""Doing what ``gradscope report`` was asked to with several recordings: those of the processes of one job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope import collector
from gradscope.analysis.comparison.merged_ranks import MergedRanks, RankMerger
from gradscope.analysis.facts.rank_facts import rank_facts
from gradscope.analysis.report_builder import build, gather
from gradscope.analysis.view import RunView
from gradscope.cli.options.output_options import Output
from gradscope.cli.output.delivery import deliver
from gradscope.cli.recording_files import recording_files
from gradscope.errors import ExitCode, UsageError
from gradscope.recording.file.store import load
from gradscope.report.ranks.ranks_screen import render_ranks


def report_ranks(paths: Sequence[Path], view: RunView, output: Output) -> ExitCode:
    """Show recordings together, each read once.

    Raises:
        GradscopeError: One cannot be read, or they are not of one job.
    """
    merged = _merged(recording_files(paths), view)
    return deliver(
        output,
        "ranks",
        table=lambda console: render_ranks(merged, console),
        text=lambda format: format.writer("ranks")(merged),
    )


def _merged(files: list[Path], view: RunView) -> MergedRanks:
    merger, processes, targets = RankMerger(), set[object](), set[str]()
    for file in files:
        recording = load(file)
        info = recording.info
        process = (info.rank, info.child)
        targets.add(info.target)
        if process in processes or len(targets) > 1:
            which = f"child {info.child}" if info.child else f"rank {info.rank}"
            what = (
                f"{file} is a second {which}" if process in processes else f"they ran {' and '.join(sorted(targets))}"
            )
            hint = "gradscope compare A B shows what differs between runs"
            raise UsageError(f"these are not the processes of one run: {what}", hint)
        processes.add(process)
        sources = gather(recording)
        facts = rank_facts(sources.index, sources.events, sources.names, sources.passes, sources.cuts)
        merger.add(str(file), build(recording, view), facts)
        del recording, sources, facts
        collector.collect()  # else all recordings stay, as facts refer to each other
    return merger.merged()
