"""Doing what ``gradscope check`` was asked to: find the targets, run them, print, write."""

from __future__ import annotations

from gradscope.cli.check_request import CheckRequest
from gradscope.cli.output.delivery import check_file, deliver
from gradscope.cli.output.progress import progress_bar
from gradscope.errors import ExitCode, UsageError
from gradscope.experiments.check.checking import check_programs
from gradscope.report.check.check_formats import SUFFIXES, write
from gradscope.report.check.check_screen import render_check
from gradscope.targets.expecting import find_expecting, has_expectations


def check_targets(request: CheckRequest) -> ExitCode:
    """Run the targets, print and write.

    Raises:
        GradscopeError: A target, an expression, an option or an output file is no good; nothing was run.
    """
    for path in request.output.files:
        check_file(path, SUFFIXES)
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
    failed = deliver(
        request.output,
        table=lambda console: render_check(report, console, printed=request.output.printed),
        data=lambda format: write(report, format),
        document=lambda path: write(report, SUFFIXES[path.suffix.lower()]),
    )
    return failed or (ExitCode.OK if report.passed else ExitCode.DIFFERENT)
