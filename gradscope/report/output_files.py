"""Where results go: the one place that opens, replaces and closes files."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from gradscope.errors import GradscopeError, UnwritableError, UsageError
from gradscope.recording.file.replaced_file import replaced_file
from gradscope.recording.file.write_errors import explanation
from gradscope.report.formats import ResultKind, format_named, format_of_file
from gradscope.report.run.run_result import RunResult

STANDARD_OUTPUT = Path("-")


def write_file(result: RunResult, path: Path, format_name: str = "") -> None:
    """Write a run to a file, in the place of what was there; the file appears whole or not at all.

    Args:
        result: The run.
        path: The file; ``-`` is standard output. The suffix ``.gradscope`` keeps the recording itself.
        format_name: Name of the format; empty: as the suffix says.

    Raises:
        GradscopeError: The file cannot be written, or its suffix stands for no format.
    """
    wanted = format_named(format_name, "run") if format_name else format_of_file(path, "run")
    if wanted is None:
        from gradscope.recording.file.store import save

        save(result.recording, path)
        return
    with open_output(path) as stream:
        wanted.writer("run")(result, stream)


def check_output(path: Path, result: ResultKind) -> None:
    """Find out what is wrong with an output file before the work is done.

    Raises:
        UsageError: Its suffix stands for no format, or it cannot be written.
    """
    format_of_file(path, result)
    check_place(path)


def check_place(path: Path) -> None:
    """Find out before the work is done whether there can be such a file.

    Raises:
        UsageError: It cannot be written; an UnwritableError where only the permission is missing.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder", "name a file in it")
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise UsageError(
            f"cannot write {path}: there is no folder {path.parent}", "create the folder, or write elsewhere"
        )
    if not os.access(path if _is_device(path) else folder, os.W_OK):
        raise UnwritableError(f"cannot write {path}: no permission", "write to a folder that you may write to")


@contextmanager
def open_output(path: Path) -> Iterator[TextIO]:
    """A text stream to a file that takes the place of the old one if all goes well, or to standard output (``-``).

    UTF-8, newlines as they are written; what UTF-8 cannot express is spelled out. A device or pipe is written to as it
    is. A closed pipe raises BrokenPipeError, which is the caller's.

    Raises:
        GradscopeError: The file cannot be written.
    """
    with explained_output(path):
        if path == STANDARD_OUTPUT:
            with _standard_output() as stream:
                yield stream
            return
        if _is_device(path):
            with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
                yield stream
            return
        target = Path(os.path.realpath(path))
        with (
            replaced_file(target) as new,
            new.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
        ):
            yield stream


@contextmanager
def explained_output(path: Path = STANDARD_OUTPUT) -> Iterator[None]:
    """Say what is wrong where a result cannot be written (the disk is full …); a closed pipe is the caller's.

    Raises:
        GradscopeError: Instead of what the system raises.
    """
    where = "standard output" if path == STANDARD_OUTPUT else str(path)
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise GradscopeError(*explanation(f"cannot write {where}", path, error)) from error


@contextmanager
def _standard_output() -> Iterator[TextIO]:
    out = sys.stdout
    if out is None:
        raise UsageError("standard output is closed", "write to a file with -o FILE")
    binary = getattr(out, "buffer", None)
    if binary is None:  # replaced by a stream of text alone
        yield out
        out.flush()
        return
    out.flush()
    stream = io.TextIOWrapper(binary, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
    try:
        yield stream
        stream.flush()
    finally:
        stream.detach()


def _is_device(path: Path) -> bool:
    return path.exists() and not path.is_file()
