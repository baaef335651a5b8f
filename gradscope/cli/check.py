"""``gradscope check``: its options."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.check_request import CheckRequest
from gradscope.cli.completion import complete_target
from gradscope.cli.deferred import after_parsing
from gradscope.errors import UsageError
from gradscope.recorder.expectation_names import documented_names


class CheckFormat(str, Enum):
    """What to print."""

    TABLE = "table"
    JSON = "json"
    JUNIT = "junit"
    GITHUB = "github"


class CheckColor(str, Enum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


RUNNING = "How to run the targets"
OUTPUT = "Output"


def _epilog() -> str:
    names = "\n\n".join(f"[cyan]{call}[/cyan] {text}" for call, text in documented_names())
    return f"""[bold]Expectations[/bold]

A comment # expect: EXPR behind a statement, or on a line of its own after it, is evaluated there each time: EXPR is
Python with the program's own names and these:

{names}

[bold]Examples[/bold]

gradscope check train.py [dim]its # expect: comments[/dim]

gradscope check tests/ scenarios/ [dim]every Python file in them that has expectations[/dim]

gradscope check train.py -e 'not reaches(loss, encoder.weight)' [dim]evaluated when the program is over[/dim]

gradscope check . -f github -o report.xml [dim]annotations for GitHub, JUnit XML for other CI[/dim]

The exit code is 0 when everything holds; 1 when something does not hold, never ran, or a program failed; 2 when a
target or an expression cannot be understood.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", epilog=_epilog())(check)


def check(
    context: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="Files, file.py::cell, scenarios, folders, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    expressions: Annotated[
        list[str] | None,
        typer.Option("--expect", "-e", metavar="EXPR", help="Must hold when a target is over. Repeatable."),
    ] = None,
    is_code: Annotated[bool, typer.Option("-c", help="Each TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="Each TARGET is the name of a module.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="End targets that take longer.", rich_help_panel=RUNNING),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, help="Targets at the same time; else the processors.", rich_help_panel=RUNNING
        ),
    ] = None,
    printed: Annotated[
        bool, typer.Option("--printed", help="Show what the targets printed.", rich_help_panel=OUTPUT)
    ] = False,
    format: Annotated[
        CheckFormat, typer.Option("--format", "-f", help="What to print.", rich_help_panel=OUTPUT)
    ] = CheckFormat.TABLE,
    output: Annotated[
        list[Path] | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to a file; its suffix tells the format: .json, .xml (JUnit), .txt. Repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.", rich_help_panel=OUTPUT)] = False,
    color: Annotated[CheckColor, typer.Option("--color", help="Colours.", rich_help_panel=OUTPUT)] = CheckColor.AUTO,
    width: Annotated[
        int | None, typer.Option("--width", min=40, help="Columns; else the terminal's.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Run programs and see whether what they expect of autograd holds.

    Each runs in a process of its own. A false expectation is reported; it never changes what the program does.
    """
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    request = CheckRequest(
        targets=tuple(targets),
        is_code=is_code,
        is_module=is_module,
        expressions=tuple(expressions or ()),
        timeout=timeout,
        jobs=jobs,
        printed=printed,
        format="" if quiet else format.value,
        outputs=tuple(output or ()),
        color={CheckColor.AUTO: None, CheckColor.ALWAYS: True, CheckColor.NEVER: False}[color],
        width=width,
    )

    def work() -> int:
        from gradscope.cli.check_targets import check_targets

        return check_targets(request)

    after_parsing(context, work)
