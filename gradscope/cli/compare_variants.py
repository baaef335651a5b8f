"""Doing what ``gradscope compare`` was asked to: run the variants, compare, print, write."""

from __future__ import annotations

import sys

from gradscope.analysis.comparison_model import Comparison
from gradscope.cli.compare_request import CompareRequest
from gradscope.cli.output_files import check_output, write_output
from gradscope.cli.progress import progress_bar
from gradscope.errors import ExitCode
from gradscope.recorder.comparison import compare
from gradscope.report.compare_console import render_comparison, render_printed
from gradscope.report.compare_formats import SUFFIXES, write
from gradscope.report.console_pipe import PipeConsole


def compare_variants(request: CompareRequest) -> ExitCode:
    """Compare, print and write.

    Raises:
        GradscopeError: A target, an option or an output file is no good.
    """
    for path in request.outputs:
        check_output(path, SUFFIXES)
    with progress_bar("variants") as progress:
        comparison = compare(
            *request.targets,
            only=request.only,
            baseline=request.baseline,
            all_rows=request.all_rows,
            timeout=request.timeout,
            jobs=request.jobs,
            repeat=request.repeat,
            progress=progress,
        )
    for path in request.outputs:
        write_output(path, write(comparison, SUFFIXES[path.suffix], request.width))
    _print(comparison, request)
    return ExitCode.DIFFERENT if request.exit_code and comparison.differs else ExitCode.OK


def _print(comparison: Comparison, request: CompareRequest) -> None:
    if sys.stdout is None or not request.format:
        return
    if request.format != "table":
        data = write(comparison, request.format, request.width).encode("utf-8", "backslashreplace")
        sys.stdout.buffer.write(data)
    else:
        console = PipeConsole(
            file=sys.stdout,
            width=request.width,
            force_terminal=request.color,
            no_color=True if request.color is False else None,
        )
        render_comparison(comparison, console)
        render_printed(comparison, console, everything=request.printed)
    sys.stdout.flush()
