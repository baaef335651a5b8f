"""``gradscope check``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.answer_options import (
    BaselineOption,
    FailOnOption,
    IgnoreOption,
    SelectOption,
    asked_answers,
)
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.many_options import JobsOption, PrintedOption, TimeoutOption, checked_timeout
from gradscope.cli.options.output_options import (
    TABLE,
    CheckFormat,
    Color,
    ColorOption,
    QuietOption,
    WidthOption,
    files_option,
)
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.requests import CheckRequest
from gradscope.errors import UsageError
from gradscope.expressions.extra_names import documented_names


def _epilog() -> str:
    names = "\n\n".join(f"[cyan]{call}[/cyan] {text}" for call, text in documented_names())
    return f"""[bold]Expectations[/bold]

A comment # expect: EXPR behind a statement, or on a line of its own after it, is evaluated there each time; on return,
raise, break and continue before the statement, on the head of a block before the block's first. EXPR is Python with the
program's own names and these:

{names}

Only comments in the target's own file count, not those in modules that it imports. While torch.compile, torch.fx or
torch.jit.trace turns a function into a graph, nothing in it is evaluated: it may never run.

[bold]Examples[/bold]

gradscope check train.py  [dim]# the # expect: comments in it[/dim]

gradscope check tests/ scenarios/  [dim]# every Python file in them that has expectations[/dim]

gradscope check train.py -e 'not reaches(loss, encoder.weight)'  [dim]# evaluated when the program is over[/dim]

gradscope check . -f github -o report.xml  [dim]# annotations for GitHub, JUnit XML for other CI[/dim]

gradscope check train.py --fail-on problem  [dim]# fails for what run would answer, too[/dim]

The exit code is 0 when everything holds; 1 when something does not hold, never ran, or a program failed, or for
an answer of --fail-on; 2 when a target or an expression cannot be understood.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check", epilog=paragraphs(_epilog()))(check)


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
    passes_over: Annotated[
        bool, typer.Option("--expecting-only", help="Pass over files that have no # expect: comment.")
    ] = False,
    fail_on: FailOnOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    baseline: BaselineOption = None,
    timeout: TimeoutOption = None,
    jobs: JobsOption = None,
    printed: PrintedOption = False,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: CheckFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("check")] = None,
    quiet: QuietOption = False,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Run programs and see whether what they expect of autograd holds.

    Each runs in a process of its own. A false expectation is reported; it never changes what the program does.
    """
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    settings = project_settings(*([] if is_code or is_module else targets))
    request = CheckRequest(
        targets=tuple(targets),
        is_code=is_code,
        is_module=is_module,
        packages=settings.packages(include, exclude),
        passes_over=passes_over,
        expressions=tuple(expressions or ()),
        answers=asked_answers(settings, select, ignore, baseline, None, fail_on),
        timeout=checked_timeout(settings.value(context, "timeout", timeout)),
        jobs=settings.value(context, "jobs", jobs),
        output=settings.output(context, "" if quiet else format.value, output, color, width)._replace(printed=printed),
    )

    def work() -> int:
        from gradscope.cli.check_targets import check_targets

        return check_targets(request)

    after_parsing(context, work)
