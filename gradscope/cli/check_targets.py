"""Doing what ``gradscope check`` was asked to: find the targets, run them, print, write."""

from __future__ import annotations

import sys

from rich.console import Console

from gradscope.analysis.check_results import CheckReport
from gradscope.cli.check_request import CheckRequest
from gradscope.cli.output_files import check_output, write_output
from gradscope.cli.progress import progress_bar
from gradscope.errors import ExitCode, UsageError
from gradscope.recorder.checking import check_programs
from gradscope.report.check_console import render_check
from gradscope.report.check_formats import SUFFIXES, write
from gradscope.targets.expecting import find_expecting, has_expectations


def check_targets(request: CheckRequest) -> ExitCode:
    """Run the targets, print and write.

    Raises:
        GradscopeError: A target, an expression, an option or an output file is no good; nothing was run.
    """
    for path in request.outputs:
        check_output(path, SUFFIXES)
    programs = find_expecting(request.targets, is_code=request.is_code, is_module=request.is_module)
    for program in programs:
        if not request.expressions and not has_expectations(program):
            raise UsageError(
                f"{program.name} has no expectation", "write one behind a statement (# expect: EXPR), or give -e EXPR"
            )
    with progress_bar("targets") as progress:
        report = check_programs(
            programs, request.expressions, timeout=request.timeout, jobs=request.jobs, progress=progress
        )
    for path in request.outputs:
        write_output(path, write(report, SUFFIXES[path.suffix]))
    _print(report, request)
    return ExitCode.OK if report.passed else ExitCode.DIFFERENT


def _print(report: CheckReport, request: CheckRequest) -> None:
    if sys.stdout is None or not request.format:
        return
    if request.format != "table":
        sys.stdout.buffer.write(write(report, request.format).encode("utf-8", "backslashreplace"))
    else:
        console = Console(
            file=sys.stdout,
            width=request.width,
            force_terminal=request.color,
            no_color=True if request.color is False else None,
        )
        render_check(report, console, printed=request.printed)
    sys.stdout.flush()
