"""Doing what ``gradscope compare`` was asked to: run the variants, compare, print, write."""

from __future__ import annotations

from rich.console import Console

from gradscope.analysis.comparison.comparison_model import Comparison
from gradscope.cli.output.delivery import deliver
from gradscope.cli.output.progress import progress_bar
from gradscope.cli.requests import CompareRequest
from gradscope.errors import ExitCode
from gradscope.experiments.compare.comparing import compare
from gradscope.report.compare.compare_screen import render_comparison, render_printed
from gradscope.report.formats import Format
from gradscope.report.output_files import check_output


def compare_variants(request: CompareRequest) -> ExitCode:
    """Compare, print and write.

    Raises:
        GradscopeError: A target, an option or an output file is no good.
    """
    output = request.output
    for path in output.files:
        check_output(path, "compare")
    with progress_bar("variants") as progress:
        comparison = compare(
            *request.targets,
            packages=request.packages,
            only=request.only,
            baseline=request.baseline,
            all_rows=request.all_rows,
            groups=[title.strip() for text in request.groups for title in text.split(",") if title.strip()],
            timeout=request.timeout,
            jobs=request.jobs,
            repeat=request.repeat,
            tolerance=request.tolerance,
            progress=progress,
        )
    failed = deliver(
        output,
        "compare",
        table=lambda console: _render(comparison, console, output.printed),
        text=lambda format: _text(comparison, format, output.width),
    )
    return failed or (ExitCode.DIFFERENT if request.exit_code and comparison.differs else ExitCode.OK)


def _render(comparison: Comparison, console: Console, printed: bool) -> None:
    render_comparison(comparison, console)
    render_printed(comparison, console, everything=printed)


def _text(comparison: Comparison, format: Format, width: int | None) -> str:
    writer = format.writer("compare")
    text: str = writer(comparison, width) if format.is_picture else writer(comparison)
    return text
