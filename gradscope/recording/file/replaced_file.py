"""Writing a file that appears whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """A new empty file beside another: it takes the other's place in the end, or is gone if that fails.

    It may be read by whoever may read the one that it replaces. Its owner may write to it: a recording is written on.

    Raises:
        OSError: No file can be made there, or it cannot take the place.
    """
    new = target.with_name(f".{target.name[:64]}.{os.urandom(4).hex()}.new")
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield new
        _to_disk(new)
        with suppress(FileNotFoundError):
            new.chmod(stat.S_IMODE(target.stat().st_mode) | stat.S_IWUSR)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Else a machine that fails may keep the new name and lose the content."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
