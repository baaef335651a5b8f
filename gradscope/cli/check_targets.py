"""Doing what ``gradscope check`` was asked to: find the targets, run them, print, write."""

from __future__ import annotations

from gradscope.cli.output.delivery import deliver
from gradscope.cli.output.failures import note
from gradscope.cli.output.progress import progress_bar
from gradscope.cli.requests import CheckRequest
from gradscope.errors import ExitCode, UsageError
from gradscope.experiments.check.checking import check_programs
from gradscope.report.check.check_screen import render_check
from gradscope.report.output_files import check_output
from gradscope.targets.expecting import find_expecting, has_expectations


def check_targets(request: CheckRequest) -> ExitCode:
    """Run the targets, print and write.

    Raises:
        GradscopeError: A target, an expression, an option or an output file is no good; nothing was run.
    """
    for path in request.output.files:
        check_output(path, "check")
    programs = find_expecting(
        request.targets,
        is_code=request.is_code,
        is_module=request.is_module,
        passes_over=request.passes_over,
    )
    programs = [program._replace(packages=request.packages) for program in programs]
    if not programs:
        note("no file has an expectation: nothing was run")
        return ExitCode.OK
    for program in programs:
        if not (request.expressions or request.answers.fail_on or has_expectations(program)):
            raise UsageError(
                f"{program.name} has no expectation",
                "write one behind a statement (# expect: EXPR), or give -e EXPR or --fail-on",
            )
    with progress_bar("targets") as progress:
        report = check_programs(
            programs,
            request.expressions,
            fail_on=request.answers.fail_on,
            selection=request.answers.selection,
            timeout=request.timeout,
            jobs=request.jobs,
            progress=progress,
        )
    failed = deliver(
        request.output,
        "check",
        table=lambda console: render_check(report, console, printed=request.output.printed),
        text=lambda format: format.writer("check")(report),
    )
    return failed or (ExitCode.OK if report.passed else ExitCode.DIFFERENT)
