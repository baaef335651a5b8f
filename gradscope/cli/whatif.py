"""``gradscope whatif``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing, deferred
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.many_options import RUNNING, JobsOption, TimeoutOption, checked_timeout
from gradscope.cli.options.output_options import (
    TABLE,
    Color,
    ColorOption,
    QuietOption,
    WhatIfFormat,
    WidthOption,
    files_option,
)
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.requests import WhatIfRequest
from gradscope.errors import UsageError

EPILOG = """[bold]Examples[/bold]

gradscope whatif train.py 23  [dim]# the variants that make sense for the statement at line 23[/dim]

gradscope whatif train.py 23 detach no_grad  [dim]# these two[/dim]

gradscope whatif train.py 23:features detach  [dim]# of features alone, where line 23 reads it[/dim]

gradscope whatif train.py 23 'self.encoder(x) * 0.5'  [dim]# an expression of your own in its place[/dim]

gradscope whatif train.py 17 remove  [dim]# without the detach() or no_grad that is there[/dim]

gradscope whatif train.py model.py:40 checkpoint --stop-after 20  [dim]# a line of a module, in 20 backward passes[/dim]

gradscope whatif train.py 23 -- --epochs 1  [dim]# what stands behind -- goes to the program[/dim]

Each variant runs in a process of its own; nothing is changed on the disk. Variants: detach, no_grad, inference_mode,
requires_grad_(False), .data, clone, detach().clone(), checkpoint, retain_grad, remove.
"""

TIMED_RUNS = 5


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("whatif", epilog=paragraphs(EPILOG))(whatif)


def whatif(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file, file.py::cell, notebook, page, built-in scenario, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    line: Annotated[
        str,
        typer.Argument(
            metavar="LINE[:NAME]", help="A line, and a name or expression of it; before it FILE: for a module's line."
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VARIANT]... [-- ARGS]", help="Variants or expressions; behind --, the program's arguments."
        ),
    ] = None,
    is_code: Annotated[bool, typer.Option("-c", help="TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="TARGET is the name of a module.")] = False,
    stop_after: Annotated[
        int,
        typer.Option(
            "--stop-after",
            metavar="N",
            min=0,
            help="End each run after so many backward passes; 0: at its end.",
            rich_help_panel=RUNNING,
        ),
    ] = 0,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Start random numbers from N.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    input: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="What each run reads as its standard input.", rich_help_panel=RUNNING
        ),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option("--repeat", metavar="N", min=0, help="Timed runs of each; 0: no times.", rich_help_panel=RUNNING),
    ] = TIMED_RUNS,
    timeout: TimeoutOption = None,
    jobs: JobsOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: WhatIfFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("whatif")] = None,
    quiet: QuietOption = False,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Try one line of a program in variants, and show what each would save and what it would break."""
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    settings = project_settings(*(() if is_code or is_module else (target,)))
    request = WhatIfRequest(
        target=target,
        line=line,
        variants=tuple(words or ()),
        arguments=deferred(context).behind,
        is_code=is_code,
        is_module=is_module,
        packages=settings.packages(include, exclude),
        input=input,
        seed=seed,
        stop_after=stop_after,
        timeout=checked_timeout(settings.value(context, "timeout", timeout)),
        repeat=repeat,
        jobs=settings.value(context, "jobs", jobs),
        output=settings.output(context, "" if quiet else format.value, output, color, width),
    )

    def work() -> int:
        from gradscope.cli.whatif_program import whatif_program

        return whatif_program(request)

    after_parsing(context, work)
