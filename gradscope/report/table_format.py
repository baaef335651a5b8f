"""The screen of ``run`` as text, for a terminal, a pipe or a file."""

from __future__ import annotations

from typing import TextIO

from gradscope.report.console import render
from gradscope.report.console_pipe import console_on
from gradscope.report.run_result import RunResult


def write(result: RunResult, stream: TextIO) -> None:
    """Print the report."""
    render(result.report, console_on(stream, result.view.width, result.view.color), result.view)
