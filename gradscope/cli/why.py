"""``gradscope why``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing, deferred
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.output_options import TABLE, Color, ColorOption, WhyFormat, WidthOption, files_option
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.options.view_options import line_range
from gradscope.cli.requests import WhyRequest
from gradscope.errors import UsageError

EPILOG = """[bold]Examples[/bold]

gradscope why train.py model.encoder.weight.grad  [dim]# why is it None, zero, NaN, or what is it from?[/dim]

gradscope why train.py 'model.fc.weight.grad is zero'

gradscope why train.py h --at 23  [dim]# h as it is at line 23, at each run of it[/dim]

gradscope why train.py forward.h  [dim]# the last h that forward was seen to have[/dim]

gradscope why train.py --line 23  [dim]# what was found that leads to this line?[/dim]

gradscope why train.py  [dim]# the first problem of the run[/dim]

gradscope why train.py loss -- --epochs 1  [dim]# what stands behind -- goes to the program[/dim]

The program's own output goes to standard error. The exit code is 0 when there is an answer (also "it has a gradient"),
1 when there is none or the expression gives no tensor, 2 when the target or the question cannot be understood.
"""

MAX_OPS = 2_000_000
"""As of ``run``: some 320 MB."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("why", epilog=paragraphs(EPILOG))(why)


def why(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file, file.py::cell, notebook, page, built-in scenario, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    expression: Annotated[
        str,
        typer.Argument(
            metavar="EXPR",
            help="What it is about: x.grad, loss, 'w.grad is zero', 'h is nan'; without it, the run's first problem.",
        ),
    ] = "",
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="ARGS", help="The program's arguments, behind --.")
    ] = None,
    is_code: Annotated[bool, typer.Option("-c", help="TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="TARGET is the name of a module.")] = False,
    at: Annotated[
        int | None,
        typer.Option(
            "--at", metavar="LINE", min=1, help="Evaluate after this line, at each run of it; else at the end."
        ),
    ] = None,
    line: Annotated[str, typer.Option("--line", metavar="N[-M]", help="Ask about these lines instead.")] = "",
    rerun: Annotated[
        bool,
        typer.Option(
            "--rerun/--no-rerun", help="Run the program again, looking at every value, where the answer needs it."
        ),
    ] = True,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: WhyFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("why")] = None,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Answer one question about a run: the answer in a sentence, the way from the loss, and what to change."""
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    from gradscope.expressions.asking import read_question

    settings = project_settings(*(() if is_code or is_module else (target,)))
    request = WhyRequest(
        target=target,
        question=read_question(expression, at or 0, line_range(line)),
        arguments=tuple(arguments or ()),
        is_code=is_code,
        is_module=is_module,
        packages=settings.packages(include, exclude),
        may_run_again=rerun,
        max_ops=MAX_OPS,
        output=settings.output(context, format.value, output, color, width),
        modules_at_start=frozenset(deferred(context).modules_at_start),
    )

    def work() -> int:
        from gradscope.cli.why_program import why_program

        why_program(request)

    after_parsing(context, work)
