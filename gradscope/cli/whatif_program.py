"""Doing what ``gradscope whatif`` was asked to: run a program with variants of a line, print, write."""

from __future__ import annotations

from gradscope.analysis.whatif.whatif_model import WhatIf
from gradscope.cli.output.delivery import deliver
from gradscope.cli.output.progress import progress_bar
from gradscope.cli.requests import WhatIfRequest
from gradscope.cli.run_program import named_program
from gradscope.errors import ExitCode, UsageError
from gradscope.experiments.whatif.asked_line import read_asked
from gradscope.experiments.whatif.trying import Trying, try_variants
from gradscope.report.formats import Format
from gradscope.report.output_files import check_output
from gradscope.report.whatif.whatif_screen import render_whatif


def whatif_program(request: WhatIfRequest) -> ExitCode:
    """Try, print and write.

    Raises:
        GradscopeError: The target, the line, a variant or an output file is no good, or the program cannot be tried.
    """
    asked = read_asked(request.line)
    for path in request.output.files:
        check_output(path, "whatif")
    if request.input is not None and not (request.input.exists() and not request.input.is_dir()):
        raise UsageError(f"no such file: {request.input}", "--input FILE is what the program reads")
    program = named_program(
        request.target, is_code=request.is_code, is_module=request.is_module, packages=request.packages
    )
    with progress_bar("runs") as progress:
        trying = Trying(
            arguments=request.arguments,
            input=str(request.input.resolve()) if request.input is not None else None,
            seed=request.seed,
            stop_after=request.stop_after,
            timeout=request.timeout,
            repeat=request.repeat,
            jobs=request.jobs,
            progress=progress,
        )
        found = try_variants(program, asked, request.variants, trying)
    return deliver(
        request.output,
        "whatif",
        table=lambda console: render_whatif(found, console),
        text=lambda format: _text(found, format, request.output.width),
    )


def _text(found: WhatIf, format: Format, width: int | None) -> str:
    writer = format.writer("whatif")
    text: str = writer(found, width) if format.is_picture else writer(found)
    return text
