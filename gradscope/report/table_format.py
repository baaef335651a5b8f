"""The screen of ``run`` as text, for a terminal, a pipe or a file."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

from gradscope.analysis.view import RunView
from gradscope.report.console import render
from gradscope.report.console_pipe import PipeConsole
from gradscope.report.run_result import RunResult


def write(result: RunResult, stream: TextIO) -> None:
    """Print the report."""
    render(result.report, console_for(stream, result.view), result.view)


def console_for(stream: TextIO, view: RunView) -> Console:
    """A console on a stream, in the width and colours that were asked for; else as the terminal and the environment
    (NO_COLOR, FORCE_COLOR) say."""
    return PipeConsole(
        file=stream,
        width=view.width,
        force_terminal=view.color,
        no_color=None if view.color is None else not view.color,
    )
