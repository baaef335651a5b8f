"""Expected errors and exit codes: everything gradscope says when it cannot do what was asked.

An expected error carries what happened (and where), what to do about it, and the exit code. Only
:mod:`gradscope.__main__` turns one into text and an exit status.
"""

from __future__ import annotations

import sys
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the command line. ``run`` passes the target's own exit code instead, where that is not 0."""

    OK = 0
    """Done; ``compare``: nothing differs or nobody asked; ``check``: everything holds."""
    DIFFERENT = 1
    """``compare --exit-code``: something differs; ``check``: something does not hold; ``--fail-on``: such an answer."""
    USAGE = 2
    """Wrong use, or input that cannot be read."""
    INTERNAL = 3
    """A fault of gradscope's own."""
    TIMEOUT = 124
    """``run --timeout``: the program took longer and was ended (as ``timeout(1)`` says it)."""


class GradscopeError(Exception):
    """An expected error: one clear message, a hint, an exit code.

    Args:
        message: What happened, and where.
        hint: What the user can do about it; empty when the message says it all.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class TargetError(GradscopeError):
    """A target that cannot be found, read, or compiled."""


class SourceError(TargetError):
    """A target that is there, and that Python would refuse to run: its source is no Python, or cannot be decoded.

    Args:
        message: What is wrong.
        hint: What the user can do about it.
        shown: The error as Python shows it, where it is the same.
    """

    def __init__(self, message: str, hint: str = "", shown: str = "") -> None:
        super().__init__(message, hint)
        self.shown = shown


class RecordingError(GradscopeError):
    """A recording that is damaged, truncated, foreign, or written by a newer gradscope."""


class UsageError(GradscopeError):
    """Options or expressions that make no sense together or cannot be understood."""


class UnwritableError(UsageError):
    """An output file whose name is good, in a folder that may not be written."""


class MissingTorchError(GradscopeError):
    """torch is needed to run a program and cannot be imported.

    Args:
        error: What the import raised.
    """

    def __init__(self, error: ImportError) -> None:
        super().__init__(
            "torch cannot be imported: programs cannot be run, recordings can be shown",
            f"{error}. Install it into this Python: {sys.executable} -m pip install torch",
        )


class EvaluationError(GradscopeError):
    """An expression that raised when it was evaluated in a program."""

    exit_code = ExitCode.DIFFERENT
