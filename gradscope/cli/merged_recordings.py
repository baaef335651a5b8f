"""The recordings of one job's processes, read one after the other and told together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope import collector
from gradscope.analysis.comparison.merged_ranks import MergedRanks, RankMerger
from gradscope.analysis.facts.ranks.rank_facts import rank_facts
from gradscope.analysis.report_builder import build, gather
from gradscope.analysis.view import RunView
from gradscope.errors import UsageError
from gradscope.recording.file.row_stream import row_stream
from gradscope.recording.file.store import load


def started_ranks(files: Sequence[Path]) -> list[Path]:
    """Those of processes that a program started itself as the ranks of one job (``torch.multiprocessing.spawn``).

    What only started them is none of the job; nor are the processes that they start themselves.
    """
    infos = []
    for file in files:
        with row_stream(file) as stream:
            infos.append((file, stream.info))
    ranks = [(file, info) for file, info in infos if info.child and info.world_size > 1]
    is_launched = any(info.world_size > 1 for _, info in infos if not info.child)
    is_one_job = len({info.rank for _, info in ranks}) == len(ranks) > 1
    return [file for file, _ in ranks] if is_one_job and not is_launched else []


def merged_recordings(files: Sequence[Path], view: RunView) -> MergedRanks:
    """Merge recordings, of which one at a time is in memory.

    Raises:
        GradscopeError: One cannot be read, or they are not of one job.
    """
    merger, processes, targets = RankMerger(), set[object](), set[str]()
    ranks = started_ranks(files)
    for file in ranks or files:
        recording = load(file)
        info = recording.info
        info.child = "" if file in ranks else info.child
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
