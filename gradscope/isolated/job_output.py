"""What a job's process prints: how much of it may be on the disk, and how much of that is kept."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gradscope.isolated.job_process import OUTPUT

_LARGEST = 64_000_000
"""Bytes; a process that prints more is ended, or one that prints without end would fill the disk."""
TOO_MUCH = f"it printed more than {_LARGEST // 1_000_000} MB"
_KEPT = 512 * 1024
"""Bytes from the beginning and from the end that are kept."""


def prints_too_much(folder: Path) -> bool:
    """Whether a job's process has printed more than it may."""
    with suppress(OSError):
        return (folder / OUTPUT).stat().st_size > _LARGEST
    return False


def printed(folder: Path) -> str:
    """What a job's process has printed; of much the beginning and the end."""
    path = folder / OUTPUT
    if not path.exists():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size <= 2 * _KEPT:
            return _text(file.read())
        first = file.read(_KEPT)
        file.seek(size - _KEPT)
        return f"{_text(first)}\n… {size - 2 * _KEPT} bytes left out …\n{_text(file.read(_KEPT))}"


def _text(data: bytes) -> str:
    return data.decode(encoding="utf-8", errors="backslashreplace").replace("\r\n", "\n").replace("\r", "\n")
