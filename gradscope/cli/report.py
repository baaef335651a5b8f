"""``gradscope report``: shows a recording. Runs nothing, and needs no torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from gradscope.analysis.view import RunView
from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.answer_options import (
    AllAnswersOption,
    AnswersAsked,
    BaselineOption,
    FailOnOption,
    IgnoreOption,
    SelectOption,
    WriteBaselineOption,
    asked_answers,
)
from gradscope.cli.options.completion import complete_recording
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.options.output_options import (
    TABLE,
    Color,
    ColorOption,
    Output,
    RunFormat,
    WidthOption,
    files_option,
)
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

EPILOG = """[bold]Examples[/bold]

gradscope run -o run.gradscope train.py  [dim]# makes the recording[/dim]

gradscope report run.gradscope --line 10-20 --graph

gradscope report run.gradscope -f json | jq .memory

gradscope report run.rank*.gradscope  [dim]# the ranks of one job: how each ended, and in what they differ[/dim]

A recording is a SQLite file: sqlite3 run.gradscope 'SELECT * FROM tensor_view' shows what was observed, table columns
what it means.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report", epilog=paragraphs(EPILOG))(report)


def report(
    context: typer.Context,
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING...",
            help="A *.gradscope file; several, or a folder: all ranks.",
            autocompletion=complete_recording,
        ),
    ],
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
    format: RunFormat = TABLE,
    output: Annotated[list[Path] | None, files_option("run")] = None,
    color: ColorOption = Color.AUTO,
    width: WidthOption = None,
) -> None:
    """Show a recording that run wrote: the same tables and formats, and the program is not run again."""
    from gradscope.report.output_files import check_output

    settings = project_settings(str(recordings[0]))
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
    is_one = len(recordings) == 1 and not recordings[0].is_dir()
    for path in output or ():
        check_output(path, "run" if is_one else "ranks")
    if is_one:
        _report_one(context, recordings[0], view, answers, format.value, output or [])
        return
    from gradscope.cli.report_ranks import report_ranks

    shown = Output(format.value, tuple(output or ()), view.color, view.width, False)
    after_parsing(context, lambda: report_ranks(recordings, view, shown))


def _report_one(
    context: typer.Context, recording: Path, view: RunView, answers: AnswersAsked, format: str, output: list[Path]
) -> None:
    from gradscope.recording.file.store import load
    from gradscope.report.output_files import STANDARD_OUTPUT, write_file
    from gradscope.report.run.run_result import RunResult

    result = RunResult(load(recording), view)
    if view.values and not len(result.recording.values):
        _say_that_no_values_are_there(recording)
    for path in output:
        write_file(result, path)
    if not output or format != TABLE:
        write_file(result, STANDARD_OUTPUT, format)
    if answers.fail_on or answers.new_baseline is not None or view.lines is not None:
        from gradscope.cli.output.judged_answers import judge

        after_parsing(context, lambda: judge(result, answers))


def _say_that_no_values_are_there(recording: Path) -> None:
    print(
        f"gradscope: {recording} has no values: they are recorded with gradscope run --values -o {recording} TARGET",
        file=sys.stderr,
    )
