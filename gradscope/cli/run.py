"""``gradscope run``: its options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.analysis.view import RunView
from gradscope.cli.deferred import after_parsing, deferred
from gradscope.cli.options.answer_options import (
    AllAnswersOption,
    BaselineOption,
    FailOnOption,
    IgnoreOption,
    SelectOption,
    WriteBaselineOption,
    asked_answers,
)
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.many_options import checked_timeout
from gradscope.cli.options.output_options import (
    TABLE,
    Color,
    ColorOption,
    QuietOption,
    RunFormat,
    WidthOption,
    files_option,
)
from gradscope.cli.options.package_options import ExcludeOption, IncludeOption
from gradscope.cli.options.process_options import ChildProcesses, ShowAt
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.options.view_options import (
    AllOption,
    ByOption,
    GradientsOption,
    GraphOption,
    LineOption,
    MemoryOption,
    OpsOption,
    SummaryOption,
    Unit,
    ValuesOption,
    line_range,
)
from gradscope.cli.requests import RunRequest
from gradscope.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    settings = {"allow_interspersed_args": False}  # what stands after the target is the program's
    app.command("run", context_settings=settings, epilog=paragraphs(EPILOG))(run)


EPILOG = """[bold]Examples[/bold]

gradscope run train.py --epochs 1

gradscope run -c 'import torch; a = torch.ones(2, requires_grad=True); b = a.detach()'

gradscope run -m package.train --epochs 1

gradscope run notes.md  [dim]# a page with ```python blocks or >>> lines; - reads standard input[/dim]

gradscope run nb.ipynb::3  [dim]# a notebook up to its third cell; file.py::docstrings runs their examples[/dim]

gradscope run --fail-on problem train.py  [dim]# for CI; -f github, -f sarif and --baseline FILE are for it, too[/dim]

What stands behind the target goes to the program, unless the program reads no arguments. The exit code is its own;
where that is 0 and --fail-on finds an answer, 1. \\[tool.gradscope] in pyproject.toml may set select, ignore, fail-on,
baseline, all-answers, max-ops, progress, width and color.
"""


MAX_OPS = 2_000_000
"""Some 320 MB: so that a run of any length fits into memory."""


def run(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A file, file.py::cell, notebook, page, REPL transcript, built-in scenario, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="ARGS", help="The program's arguments.")] = None,
    is_code: Annotated[bool, typer.Option("-c", help="TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="TARGET is the name of a module.")] = False,
    watch: Annotated[
        list[str] | None,
        typer.Option("--watch", metavar="EXPR", help="Follow the value of a name or expression. Repeatable."),
    ] = None,
    imports: Annotated[
        list[str] | None,
        typer.Option("--import", metavar="NAME", help="Import it first: torch, or 'numpy as np'. Repeatable."),
    ] = None,
    line: LineOption = "",
    all_rows: AllOption = False,
    ops: OpsOption = False,
    by: ByOption = Unit.LINE,
    graph: GraphOption = None,
    memory: MemoryOption = None,
    gradients: GradientsOption = False,
    values: ValuesOption = False,
    summary: SummaryOption = False,
    all_answers: AllAnswersOption = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    baseline: BaselineOption = None,
    write_baseline: WriteBaselineOption = None,
    fail_on: FailOnOption = None,
    max_ops: Annotated[
        int,
        typer.Option("--max-ops", min=0, help="Keep so many single ops, about 160 bytes each; the rest is counted."),
    ] = MAX_OPS,
    every_op: Annotated[
        bool, typer.Option("--every-op", help="Keep every op of a long run, also what comes again alike.")
    ] = False,
    nan: Annotated[
        bool, typer.Option("--nan", help="Look at every value: where was a NaN or an infinity born? Slower.")
    ] = False,
    fingerprints: Annotated[
        bool, typer.Option("--fingerprints", help="Keep what gradscope compare A B needs to say where two runs part.")
    ] = False,
    ranks: Annotated[
        str,
        typer.Option("--rank", metavar="N", help="Under a launcher: the ranks that print (0; 1,3; all)."),
    ] = "0",
    children: Annotated[
        ChildProcesses,
        typer.Option(
            "--children", help="Processes that the program starts: count them, or record each beside -o FILE."
        ),
    ] = ChildProcesses.NOTE,
    show_at: Annotated[
        ShowAt,
        typer.Option("--show-at", help="The signal at which the screen so far is shown and the program goes on."),
    ] = ShowAt.AUTO,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="End it if it takes longer, and show where it stood."),
    ] = None,
    progress: Annotated[
        bool,
        typer.Option("--progress/--no-progress", help="While it runs, tell on the terminal how far it has come."),
    ] = True,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    format: RunFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("run")] = None,
    quiet: QuietOption = False,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Run a program and show, line by line, what autograd did in it.

    The program runs as under python: same output, same errors, same exit code.
    """
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    settings = project_settings(*([] if is_code or is_module else [target]))
    answers = asked_answers(settings, select, ignore, baseline, write_baseline, fail_on)
    view = RunView(
        lines=line_range(line),
        all=all_rows,
        ops=ops,
        by_module=by is Unit.MODULE,
        graph=graph,
        memory=memory,
        gradients=gradients,
        values=values,
        quiet=summary,
        width=settings.value(context, "width", width),
        color=settings.value(context, "color", color).wanted,
        all_answers=settings.value(context, "all_answers", all_answers),
        selection=answers.selection,
    )
    request = RunRequest(
        target=target,
        arguments=tuple(arguments or ()),
        own_options=frozenset(name for option in context.command.params for name in option.opts),
        is_code=is_code,
        is_module=is_module,
        packages=settings.packages(include, exclude),
        watch=tuple(watch or ()),
        imports=tuple(imports or ()),
        max_ops=settings.value(context, "max_ops", max_ops),
        every_op=every_op,
        nan=nan,
        fingerprints=fingerprints,
        view=view,
        answers=answers,
        format="" if quiet else format.value,
        ranks=ranks,
        children=children,
        looks_at=show_at.number,
        timeout=checked_timeout(timeout),
        progress=settings.value(context, "progress", progress),
        outputs=tuple(output or ()),
        modules_at_start=frozenset(deferred(context).modules_at_start),
    )

    def work() -> int:
        from gradscope.cli.run_program import run_program

        run_program(request)

    after_parsing(context, work)
