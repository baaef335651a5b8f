"""The user's files on the disk: where an edit of the text that was run goes in their bytes, and writing it."""

from __future__ import annotations

import difflib
import io
import os
import stat
import tempfile
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradscope.analysis.edits.edit_model import SpanChange, applied
from gradscope.errors import GradscopeError


@dataclass(frozen=True)
class SourceFileOnDisk:
    """A file as it was read: its text with its own line ends, and how it is encoded."""

    path: Path
    data: bytes
    text: str
    encoding: str

    @classmethod
    def read(cls, path: Path) -> SourceFileOnDisk | None:
        """A file that can be read as Python reads it; None for another."""
        try:
            data = path.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            text = data.decode(encoding)
        except (OSError, SyntaxError, UnicodeDecodeError, ValueError):
            return None
        return cls(path, data, text, encoding)

    def edited(self, run: str, changes: Iterable[SpanChange]) -> str | None:
        """The file's text with the changes of a text that was run; None where their lines are not the same.

        Args:
            run: The text that was run: of the whole file with plain line ends, or with lines of it left out.
            changes: In characters of that text.
        """
        lines, own = run.split("\n"), self.text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        newline = "\r\n" if "\r\n" in self.text else "\r" if "\r" in self.text and "\n" not in self.text else "\n"
        moved = []
        for change in changes:
            touched = range(run.count("\n", 0, change.start), run.count("\n", 0, change.end) + 1)
            if any(_line(lines, number) != _line(own, number) for number in touched):
                return None
            start, end = self._place(run, change.start), self._place(run, change.end)
            moved.append(SpanChange(start, end, change.text.replace("\n", newline)))
        return applied(self.text, moved)

    def _place(self, run: str, position: int) -> int:
        """The character of the file's text that a character of the text that was run is."""
        line = run.count("\n", 0, position)
        column = position - (run.rfind("\n", 0, position) + 1)
        starts = [0]
        for piece in io.StringIO(self.text, newline=""):
            starts.append(starts[-1] + len(piece))
        return min(starts[min(line, len(starts) - 1)] + column, len(self.text))

    def is_as_run(self, run: str) -> bool:
        """Whether the text that was run is the file's, line ends apart."""
        own = self.text.replace("\r\n", "\n").replace("\r", "\n")
        return own.rstrip("\n") == run.rstrip("\n")

    def is_unchanged(self) -> bool:
        """Whether the file is still what was read."""
        try:
            return self.path.read_bytes() == self.data
        except OSError:
            return False


def _line(lines: list[str], number: int) -> str:
    return lines[number] if number < len(lines) else ""


def unified(name: str, before: str, after: str) -> str:
    """A unified diff that ``patch -p1`` and ``git apply`` take; empty for two texts that are the same."""
    lines = difflib.unified_diff(
        list(io.StringIO(before, newline="\n")), list(io.StringIO(after, newline="\n")), f"a/{name}", f"b/{name}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)


def write_back(file: SourceFileOnDisk, text: str, root: Path) -> None:
    """Write a file's new text in the place of the old, whole or not at all; its mode and encoding stay.

    Raises:
        GradscopeError: It lies outside the target's folder, has been changed since it was read, or cannot be written.
    """
    real, folder = Path(os.path.realpath(file.path)), Path(os.path.realpath(root))
    if not real.is_relative_to(folder):
        raise GradscopeError(f"{file.path} is not written: it lies outside of {folder}", "apply the diff: -f diff")
    if not file.is_unchanged():
        raise GradscopeError(f"{file.path} is not written: it was changed while the program ran", "run fix again")
    try:
        data = text.encode(file.encoding)
        mode = stat.S_IMODE(real.stat().st_mode)
        if not os.access(real, os.W_OK):
            raise PermissionError(13, "Permission denied")
        descriptor, temporary = tempfile.mkstemp(dir=real.parent, prefix=f".{real.name}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            Path(temporary).chmod(mode)
            Path(temporary).replace(real)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except (OSError, UnicodeEncodeError) as error:
        raise GradscopeError(f"{file.path} cannot be written: {error}") from error
