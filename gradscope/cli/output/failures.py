"""Errors as a user sees them: one clear message on standard error, and the exit code."""

from __future__ import annotations

import errno
import os
import sys

from gradscope.errors import ExitCode, GradscopeError, MissingTorchError, SourceError


def tell(error: Exception) -> ExitCode:
    """Say what went wrong, on standard error; returns the exit code that stands for it."""
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] == "torch":
        error = MissingTorchError(error)
    if isinstance(error, GradscopeError):
        _say(f"gradscope: {error.message}")
        if error.hint:
            _say(f"  {error.hint}")
        return error.exit_code
    if isinstance(error, BrokenPipeError):  # whoever read our output has had enough
        return ExitCode.OK
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        _say(f"gradscope: cannot write: {error.strerror}")
        _say("  make room on the disk, or write elsewhere")
        return ExitCode.USAGE
    _report_fault(error)
    return ExitCode.INTERNAL


def tell_as_python(error: SourceError) -> int:
    """Say why a program cannot be run as Python says it; returns Python's exit code."""
    if error.shown:
        _say(error.shown)
    else:
        tell(error)
    return 1


def note(text: str) -> None:
    """Say on standard error what is not as it was asked for, though all goes well."""
    _say(f"gradscope: {text}")


def forget_standard_output() -> None:
    """After a broken pipe or on a full disk: what is still buffered must not raise when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _say(text: str) -> None:
    """Print text in which whatever comes from the user's files is shown and never obeyed."""
    if sys.stderr is None:
        return
    from gradscope.report.screen.text import safe

    for line in text.split("\n"):
        print(safe(line), file=sys.stderr)


def _report_fault(error: Exception) -> None:
    import platform
    import traceback

    from gradscope.version import VERSION

    _say(f"gradscope: a fault of its own: {type(error).__name__}: {error}")
    for frame in reversed(traceback.extract_tb(error.__traceback__)[-3:]):
        _say(f"  at {frame.filename}:{frame.lineno} in {frame.name}")
    _say(f"  gradscope {VERSION}, Python {platform.python_version()}. Please report it with these lines.")
