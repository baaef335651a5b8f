"""``gradscope report``: shows a recording. Runs nothing, and needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.answer_options import (
    AllAnswersOption,
    BaselineOption,
    FailOnOption,
    IgnoreOption,
    SelectOption,
    WriteBaselineOption,
    asked_answers,
)
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.output_options import (
    TABLE,
    Color,
    ColorOption,
    RunFormat,
    WidthOption,
    files_option,
)
from gradscope.cli.options.project_settings import project_settings
from gradscope.cli.options.view_options import (
    AllOption,
    GraphOption,
    LineOption,
    MemoryOption,
    OpsOption,
    SummaryOption,
    ValuesOption,
    line_range,
)

EPILOG = """[bold]Examples[/bold]

gradscope run -o run.gradscope train.py  [dim]# makes the recording[/dim]

gradscope report run.gradscope --line 10-20 --graph

gradscope report run.gradscope -f json | jq .memory

A recording is a SQLite file: sqlite3 run.gradscope 'SELECT * FROM tensor_view' shows what was observed, table columns
what it means.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=paragraphs(EPILOG))(report)


def report(
    context: typer.Context,
    recording: Annotated[Path, typer.Argument(help="A recording: a *.gradscope file.")],
    line: LineOption = "",
    all_rows: AllOption = False,
    ops: OpsOption = False,
    graph: GraphOption = None,
    memory: MemoryOption = None,
    values: ValuesOption = False,
    summary: SummaryOption = False,
    all_answers: AllAnswersOption = False,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    baseline: BaselineOption = None,
    write_baseline: WriteBaselineOption = None,
    fail_on: FailOnOption = None,
    format: RunFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("run")] = None,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Show a recording that run wrote: the same tables and formats, and the program is not run again."""
    from gradscope.analysis.view import RunView
    from gradscope.recording.file.store import load
    from gradscope.report.output_files import STANDARD_OUTPUT, check_output, write_file
    from gradscope.report.run.run_result import RunResult

    settings = project_settings(str(recording))
    answers = asked_answers(settings, select, ignore, baseline, write_baseline, fail_on)
    view = RunView(
        lines=line_range(line),
        all=all_rows,
        ops=ops,
        graph=graph,
        memory=memory,
        values=values,
        quiet=summary,
        width=settings.value(context, "width", width),
        color=settings.value(context, "color", color).wanted,
        all_answers=settings.value(context, "all_answers", all_answers),
        selection=answers.selection,
    )
    for path in output or ():
        check_output(path, "run")
    result = RunResult(load(recording), view)
    for path in output or ():
        write_file(result, path)
    if not output or format.value != TABLE:
        write_file(result, STANDARD_OUTPUT, format.value)
    if answers.fail_on or answers.new_baseline is not None:
        from gradscope.cli.output.judged_answers import judge

        after_parsing(context, lambda: judge(result, answers))
