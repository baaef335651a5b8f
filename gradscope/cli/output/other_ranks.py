"""What the other ranks of a job did otherwise, for the end of the screen of a rank that prints."""

from __future__ import annotations

import time
from pathlib import Path

from gradscope.analysis.comparison.merged_ranks import MergedRanks
from gradscope.analysis.view import RunView
from gradscope.cli.merged_recordings import merged_recordings
from gradscope.errors import GradscopeError, RecordingError
from gradscope.recording.file.row_stream import row_stream
from gradscope.recording.launch import Launch

WAIT = 3.0
"""Seconds for which a rank that is over waits for the others."""
AT_MOST = 1 << 26
"""Bytes of all recordings from which on they are not read at the end of a run."""
_LOOK = 0.05


def beside_others(own: Path, launch: Launch, began: float, view: RunView) -> MergedRanks | None:
    """All ranks together, without the answers that this rank's own screen gives.

    Args:
        own: This rank's recording, which is complete.
        launch: Which it is.
        began: When it was begun, in seconds since the epoch: a file that nobody wrote since is of an earlier job.
        view: What is asked for.

    Returns:
        None where the others have not all ended on this machine soon after, left much, or are not to be merged.
    """
    ranks = range(launch.world_size)
    files = [own.with_name(own.name.replace(f".rank{launch.rank}.", f".rank{rank}.")) for rank in ranks]
    until = time.monotonic() + WAIT
    while not all(file == own or _has_ended(file, began) for file in files):
        if time.monotonic() > until or not all(file.exists() for file in files):
            return None
        time.sleep(_LOOK)
    if sum(file.stat().st_size for file in files) > AT_MOST:
        return None
    try:
        merged = merged_recordings(files, view)
    except GradscopeError:  # they ran different programs, or one is damaged: ``gradscope report`` says so when asked
        return None
    return merged._replace(answers=tuple(one for one in merged.answers if launch.rank not in one.ranks))


def _has_ended(file: Path, began: float) -> bool:
    try:
        if file.stat().st_mtime < began:
            return False
        with row_stream(file) as stream:
            return stream.info.outcome.kind != "running"
    except (OSError, RecordingError):  # (it is not there yet, or being written)
        return False
