"""``gradscope export``: recordings as tables that other tools ask. Runs nothing, and needs no torch."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing
from gradscope.cli.options.completion import complete_recording
from gradscope.cli.options.help_text import paragraphs


class ExportFormat(str, Enum):
    """What recordings are written as."""

    PARQUET = "parquet"


EPILOG = """[bold]Examples[/bold]

gradscope export run.rank*.gradscope --format parquet tables

duckdb -c "SELECT run, sum(nbytes) FROM 'tables/saved/**/*.parquet' GROUP BY run"

It needs pyarrow, as the extra gradscope\\[parquet] brings it. gradscope help export says more, gradscope help tables
what each column means. The exit code is 2 where a recording cannot be read; the others are in the folder then.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("export", epilog=paragraphs(EPILOG))(export)


def export(
    context: typer.Context,
    recordings: Annotated[
        list[Path],
        typer.Argument(
            metavar="RECORDING...",
            help="*.gradscope files, or folders with such: any number.",
            autocompletion=complete_recording,
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the tables go: a new folder.")],
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="What to write.")] = ExportFormat.PARQUET,  # noqa: ARG001
    answers: Annotated[
        bool, typer.Option("--answers", help="Analyse each recording, too: a table of what is found. Slower.")
    ] = False,
) -> None:
    """Write recordings as tables, partitioned by run and rank, for DuckDB, Polars, Spark or pandas."""

    def work() -> int:
        from gradscope.cli.export_recordings import export_all

        return export_all(recordings, folder, with_answers=answers)

    after_parsing(context, work)
