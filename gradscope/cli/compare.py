"""``gradscope compare``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.completion import complete_cell, complete_compared, complete_groups, complete_variant
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.many_options import RUNNING, JobsOption, PrintedOption, TimeoutOption, checked_timeout
from gradscope.cli.options.output_options import (
    TABLE,
    Color,
    ColorOption,
    CompareFormat,
    QuietOption,
    WidthOption,
    files_option,
)
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.requests import CompareRequest

EPILOG = """[bold]Examples[/bold]

gradscope compare  [dim]# nine ways to stop a gradient, in short; --all or --group storage says more[/dim]

gradscope compare freeze_encoder --time  [dim]# another built-in comparison, with times[/dim]

gradscope compare train.py  [dim]# its cells, each opened by a line # %% name, run after what stands above them[/dim]

gradscope compare old.py new.py --exit-code  [dim]# two versions of a script; 1 where they differ[/dim]

A comment # watch: EXPR in a file adds a row; # watch: EXPR  # group: label says where and what it is called.
"""


TIMED_RUNS = 10


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("compare", epilog=paragraphs(EPILOG))(compare)


def compare(
    context: typer.Context,
    targets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TARGET]...",
            help="A file or scenario with cells, or several files, scenarios or recordings.",
            autocompletion=complete_compared,
            show_default="stop_gradient",
        ),
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all", help="All groups of facts, and the rows in which all agree.")
    ] = False,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            metavar="A,B",
            help="Only these groups of facts: storage, memory ... Repeatable.",
            autocompletion=complete_groups,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="A,B", help="Only these cells. Repeatable.", autocompletion=complete_cell),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline",
            metavar="NAME",
            help="Mark what differs from this variant.",
            autocompletion=complete_variant,
        ),
    ] = None,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 where something differs.")] = False,
    timed: Annotated[
        bool,
        typer.Option(
            "--time", help="Time forward and backward, in runs without the recorder.", rich_help_panel=RUNNING
        ),
    ] = False,
    repeat: Annotated[
        int | None,
        typer.Option(
            "--repeat", min=1, help="Timed runs of each variant (else 10); means --time.", rich_help_panel=RUNNING
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0.0, help="Of recordings with --fingerprints: how far apart counts as equal."),
    ] = 0.0,
    timeout: TimeoutOption = None,
    jobs: JobsOption = None,
    printed: PrintedOption = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: CompareFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("compare")] = None,
    quiet: QuietOption = False,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Run variants of a program and show, side by side, what autograd did differently in them.

    Each runs in a process of its own. One that raises, exits, hangs or crashes is a result like any other.
    """
    settings = project_settings(*(targets or ()))
    request = CompareRequest(
        targets=tuple(targets or ()),
        packages=settings.packages(include, exclude),
        all_rows=all_rows,
        groups=tuple(groups or ()),
        only=tuple(only or ()),
        baseline=baseline,
        exit_code=exit_code,
        repeat=repeat or (TIMED_RUNS if timed else 0),
        tolerance=tolerance,
        timeout=checked_timeout(settings.value(context, "timeout", timeout)),
        jobs=settings.value(context, "jobs", jobs),
        output=settings.output(context, "" if quiet else format.value, output, color, width)._replace(printed=printed),
    )

    def work() -> int:
        from gradscope.cli.compare_variants import compare_variants

        return compare_variants(request)

    after_parsing(context, work)
