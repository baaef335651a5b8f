"""Doing what ``gradscope export`` was asked to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope.cli.output.failures import note, tell
from gradscope.cli.output.progress import progress_bar
from gradscope.cli.recording_files import recording_files
from gradscope.errors import ExitCode, RecordingError
from gradscope.report.export.exported_folder import check_folder, export_recordings
from gradscope.report.export.parquet_files import check_installed


def export_all(paths: Sequence[Path], folder: Path, *, with_answers: bool) -> ExitCode:
    """Export recordings; what is wrong with one is said, and keeps no other from being exported.

    Raises:
        GradscopeError: There is none, or the folder cannot be written; then it is not there.
    """
    check_installed()
    check_folder(folder)
    files = recording_files(paths)
    code = ExitCode.OK

    def refuse(error: RecordingError) -> None:
        nonlocal code
        code = tell(error)

    with progress_bar("recordings") as progress:
        count = export_recordings(files, folder, with_answers=with_answers, refuse=refuse, progress=progress)
    if not count:
        note(f"nothing was exported: none of {len(files):,} recordings could be read")
    elif count < len(files):
        note(f"{count:,} of {len(files):,} recordings are in {folder}")
    else:
        note(f"{count:,} recording{'s' * (count != 1)} in {folder}")
    return code
