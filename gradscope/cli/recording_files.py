"""The recordings that paths on the command line name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gradscope.errors import UsageError
from gradscope.report.formats import RECORDING_SUFFIX


def recording_files(paths: Sequence[Path]) -> list[Path]:
    """The files, those of a folder among them.

    Raises:
        UsageError: There is none.
    """
    found = []
    for path in paths:
        found += sorted(path.glob(f"*{RECORDING_SUFFIX}")) if path.is_dir() else [path]
    if not found:
        raise UsageError(f"there is no recording in {', '.join(map(str, paths))}", "gradscope run -o FILE makes one")
    return found
