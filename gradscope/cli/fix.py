"""``gradscope fix``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.answer_options import IgnoreOption, SelectOption, asked_answers
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.many_options import RUNNING, JobsOption, TimeoutOption, checked_timeout
from gradscope.cli.options.output_options import TABLE, Color, ColorOption, FixFormat, WidthOption, files_option
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.requests import FixRequest
from gradscope.errors import UsageError

EPILOG = """[bold]Examples[/bold]

gradscope fix train.py  [dim]# each edit as a diff, with what the run with it shows; nothing is changed[/dim]

gradscope fix train.py --stop-after 20 -- --epochs 1  [dim]# end each run after 20 backward passes[/dim]

gradscope fix train.py -f diff | git apply

gradscope fix train.py --write  [dim]# apply the edits that hold[/dim]

gradscope fix train.py --check  [dim]# exit code 1 where an edit is offered[/dim]

The program is run once as it is and once with each edit, in processes of their own whose input is empty; what it writes
to files it writes in each. An edit whose proof fails is not offered: --all shows it, with what happened.
"""

MAX_OPS = 2_000_000
"""As of ``run``: some 320 MB."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fix", epilog=paragraphs(EPILOG))(fix)


def fix(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file, file.py::cell, built-in scenario, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="The program's arguments, behind --.")
    ] = None,
    is_code: Annotated[bool, typer.Option("-c", help="TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="TARGET is the name of a module.")] = False,
    write: Annotated[
        bool, typer.Option("--write", help="Apply the edits that are offered, in files below the target's folder.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 where an edit is offered.")] = False,
    all_edits: Annotated[bool, typer.Option("--all", help="Show also the edits that do not hold, and why.")] = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    stop_after: Annotated[
        int,
        typer.Option(
            "--stop-after", metavar="N", min=0, help="End each run after N backward passes.", rich_help_panel=RUNNING
        ),
    ] = 0,
    timeout: TimeoutOption = None,
    jobs: JobsOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: FixFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("fix")] = None,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Find edits for what a run shows, and prove each by running the program with it."""
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    if write and check:
        raise UsageError("--write and --check cannot be used together")
    if write and (is_code or target == "-"):
        raise UsageError("--write needs a file", "-f diff prints the edits")
    settings = project_settings(*(() if is_code or is_module else (target,)))
    request = FixRequest(
        target=target,
        arguments=tuple(arguments or ()),
        is_code=is_code,
        is_module=is_module,
        packages=settings.packages(include, exclude),
        answers=asked_answers(settings, select, ignore, None, None, None),
        writes=write,
        checks=check,
        all_edits=all_edits,
        timeout=checked_timeout(settings.value(context, "timeout", timeout)),
        jobs=settings.value(context, "jobs", jobs),
        stop_after=stop_after,
        max_ops=MAX_OPS,
        output=settings.output(context, format.value, output, color, width),
    )

    def work() -> int:
        from gradscope.cli.fix_program import fix_program

        return fix_program(request)

    after_parsing(context, work)
