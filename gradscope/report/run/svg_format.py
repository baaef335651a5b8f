"""SVG: a picture of the screen, for READMEs and slides."""

from __future__ import annotations

from typing import TextIO

from gradscope.report.run.run_result import RunResult
from gradscope.report.run.run_screen import render_svg

_COLUMNS = 100


def write(result: RunResult, stream: TextIO) -> None:
    """Draw the report."""
    stream.write(render_svg(result.report, result.view, result.view.width or _COLUMNS))
