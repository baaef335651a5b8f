"""Why a file cannot be written, in words: what the system and SQLite say, and what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def explanation(what: str, path: Path, error: Exception) -> tuple[str, str]:
    """Message and hint.

    Args:
        what: What could not be done: ``cannot write run.json``.
        path: The file.
        error: What was raised: an OSError, or an error of SQLite.
    """
    number = error.errno if isinstance(error, OSError) else None
    reason = str((isinstance(error, OSError) and error.strerror) or error)
    if not path.parent.is_dir():
        return f"{what}: there is no folder {path.parent}", "create the folder, or write elsewhere"
    if number in _FULL or "full" in reason or "disk I/O" in reason:
        return f"{what}: {reason}", "make room on the disk, or write elsewhere"
    if isinstance(error, PermissionError) or number == errno.EROFS or "readonly" in reason or "unable to" in reason:
        return f"{what}: {reason}", "write to a folder that you may write to"
    return f"{what}: {reason}", ""
