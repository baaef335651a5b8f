"""Files that ``-o`` names: what can be said before anything is run, and writing them whole or not at all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from gradscope.errors import UsageError
from gradscope.recording.replaced_file import replaced_file


def check_output(path: Path, suffixes: Collection[str]) -> None:
    """Say before anything is run that a file cannot be written.

    Raises:
        UsageError: Its suffix tells no format, or its folder does not exist.
    """
    if path.suffix not in suffixes:
        raise UsageError(f"cannot tell a format from {path}", "name a file that ends in one of " + " ".join(suffixes))
    if not path.absolute().parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no folder {path.parent}")


def write_output(path: Path, text: str) -> None:
    """Write a file, in the place of one of that name.

    Raises:
        UsageError: It cannot be written.
    """
    try:
        with replaced_file(path.resolve()) as new:
            new.write_bytes(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
