"""The screen of ``run`` as text, for a terminal, a pipe or a file."""

from __future__ import annotations

from typing import TextIO

from gradscope.report.run.run_result import RunResult
from gradscope.report.run.run_screen import render
from gradscope.report.screen.pipe import console_on


def write(result: RunResult, stream: TextIO) -> None:
    """Print the report."""
    render(result.report, console_on(stream, result.view.width, result.view.color), result.view)
