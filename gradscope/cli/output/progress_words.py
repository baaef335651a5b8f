"""The line that tells how far a program has come."""

from __future__ import annotations

import os

from gradscope.analysis.sizes import size
from gradscope.hosting.progress_line import Progress


def progress_words(progress: Progress, *, shown_at: str | None) -> str:
    """One line of ASCII, what matters most first: a narrow terminal cuts it.

    Args:
        progress: How far it has come.
        shown_at: The signal at which the screen so far is shown, if one is.
    """
    minutes, seconds = divmod(int(progress.seconds), 60)
    hours, minutes = divmod(minutes, 60)
    time = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
    grown = f", grown by {size(progress.growth)}" if progress.growth > 0 else ""
    ops = f"{progress.ops:,} op{'s' * (progress.ops != 1)}"
    words = f"gradscope {time} | {ops} | tensors {size(progress.nbytes)}{grown}"
    return words if shown_at is None else f"{words} | kill -{shown_at[3:]} {os.getpid()} shows more"
