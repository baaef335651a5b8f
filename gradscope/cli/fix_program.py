"""Doing what ``gradscope fix`` was asked to: find edits, prove them, show, and write where that was asked for."""

from __future__ import annotations

from gradscope.cli.output.delivery import deliver
from gradscope.cli.output.failures import note
from gradscope.cli.output.progress import progress_bar
from gradscope.cli.requests import FixRequest
from gradscope.cli.run_program import named_program
from gradscope.errors import ExitCode
from gradscope.experiments.fix.fixing import Fixing, FixOptions
from gradscope.report.fix.fix_screen import render_fixes
from gradscope.report.output_files import check_output


def fix_program(request: FixRequest) -> ExitCode:
    """Find edits, show them, and apply them where that was asked for.

    Raises:
        GradscopeError: The target, an option or an output file is no good, or the program could not be run to an end.
    """
    output = request.output
    for path in output.files:
        check_output(path, "fix")
    program = named_program(
        request.target, is_code=request.is_code, is_module=request.is_module, packages=request.packages
    )
    options = FixOptions(
        arguments=request.arguments,
        selection=request.answers.selection,
        timeout=request.timeout,
        jobs=request.jobs,
        stop_after=request.stop_after,
        max_ops=request.max_ops,
    )
    with progress_bar("runs") as progress:
        fixing = Fixing(program, options, progress)
        report = fixing.find()
    failed = deliver(
        output,
        "fix",
        table=lambda console: render_fixes(report, console, everything=request.all_edits, writes=request.writes),
        text=lambda format: str(format.writer("fix")(report)),
    )
    if request.writes and report.offered:
        for path in fixing.write(report):
            note(f"wrote {path}")
    if failed:
        return failed
    return ExitCode.DIFFERENT if request.checks and report.offered else ExitCode.OK
