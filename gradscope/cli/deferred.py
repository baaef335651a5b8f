"""What a command leaves to be done once the command line has been parsed.

Typer changes what a hosted program raises (its own handling of interrupts, end of input and exit codes), so a command
that runs one only says what to do; it is done outside Typer's call.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import typer


class Deferred:
    """The state of one call of the command line.

    Args:
        modules_at_start: Names of the modules that Python had imported before gradscope.
        behind: What stood behind ``--`` in a command that tells it from its own arguments.
    """

    def __init__(self, modules_at_start: Collection[str] = (), behind: tuple[str, ...] = ()) -> None:
        self.modules_at_start = modules_at_start
        self.behind = behind
        self.work: list[Callable[[], int]] = []
        """What is left to do; each returns an exit code."""


def after_parsing(context: typer.Context, work: Callable[[], int]) -> None:
    """Do this after Typer has returned; its result is the exit code."""
    deferred(context).work.append(work)


def deferred(context: typer.Context) -> Deferred:
    """The state of this call of the command line."""
    state = context.find_root().obj
    if not isinstance(state, Deferred):
        raise TypeError("the command line was not started by run_command_line")
    return state
