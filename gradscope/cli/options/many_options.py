"""Options of commands that run many programs, each in a process of its own: ``compare`` and ``check``."""

from __future__ import annotations

from typing import Annotated

import typer

from gradscope.cli.options.output_options import OUTPUT
from gradscope.errors import UsageError

RUNNING = "How to run them"

TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", metavar="SECONDS", help="End those that take longer; no limit otherwise.", rich_help_panel=RUNNING
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option("--jobs", "-j", min=1, help="At the same time; else the processors.", rich_help_panel=RUNNING),
]
PrintedOption = Annotated[
    bool, typer.Option("--printed", help="Show what the programs printed.", rich_help_panel=OUTPUT)
]


def checked_timeout(seconds: float | None) -> float | None:
    """The value of ``--timeout``.

    Raises:
        UsageError: It is no length of time.
    """
    if seconds is not None and not seconds > 0:
        raise UsageError(f"--timeout {seconds:g} is no length of time", "give a number of seconds above 0")
    return seconds
