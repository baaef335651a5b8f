"""``gradscope explain``: what a diagnosis means, with an example that is run when it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from gradscope.cli.options.completion import complete_code

if TYPE_CHECKING:
    from gradscope.analysis.comparison.rank_cause_kinds import RankCauseKind
    from gradscope.analysis.diagnoses.diagnosis import Diagnosis


VERSIONS = "torch-versions"
"""What is explained beside the diagnoses: what changed …"""
RANKS = "ranks"
"""… and the causes that only the recordings of several processes together tell; each has a code of its own, too."""


class ExplainFormat(str, Enum):
    """How to show the diagnoses."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain")(explain)


def explain(
    code: Annotated[
        str,
        typer.Argument(
            help="The code of a diagnosis, or ranks, or torch-versions; without one, all are listed.",
            autocompletion=complete_code,
        ),
    ] = "",
    format: Annotated[ExplainFormat, typer.Option("--format", "-f", help="What to print.")] = ExplainFormat.TABLE,
    run: Annotated[bool, typer.Option("--run/--no-run", help="Run the example and show what was measured.")] = True,
) -> None:
    """Explain a diagnosis: what it means, why torch behaves so, an example that is run, and how to mend it.

    Two are no diagnosis: ranks lists what gradscope report says of the processes of a job, under codes that are
    explained like the others; torch-versions lists the derivatives that are not the same in all versions of torch.

    Into a pipe, the list is one diagnosis a line, the columns separated by tabs.
    """
    if code == VERSIONS:
        _print_versions(format)
        return
    from gradscope.analysis.comparison.rank_cause_kinds import KINDS, rank_cause_kind
    from gradscope.analysis.diagnoses.catalogue import every_diagnosis

    of_ranks = rank_cause_kind(code.strip("[]"))
    if code == RANKS or of_ranks is not None:
        _print_ranks(KINDS if of_ranks is None else (of_ranks,), format)
        return
    wanted = (_named(code),) if code else every_diagnosis()
    if format is not ExplainFormat.TABLE:
        _print_data(wanted, format)
    elif code:
        _print_one(wanted[0], run)
    else:
        _print_all()


def _print_versions(format: ExplainFormat) -> None:
    import sys

    from gradscope.analysis.facts.derivatives.version_changes import CHANGES
    from gradscope.report.explain.version_tables import print_versions, to_json, to_markdown
    from gradscope.report.screen.pipe import console_on

    if format is ExplainFormat.TABLE:
        print_versions(CHANGES, console_on(sys.stdout))
    else:
        typer.echo((to_json if format is ExplainFormat.JSON else to_markdown)(CHANGES), nl=False)


def _print_ranks(kinds: Sequence[RankCauseKind], format: ExplainFormat) -> None:
    import sys

    from gradscope.report.explain.rank_cause_texts import print_kind, print_kinds, to_json, to_markdown
    from gradscope.report.screen.pipe import console_on

    if format is not ExplainFormat.TABLE:
        typer.echo((to_json if format is ExplainFormat.JSON else to_markdown)(kinds), nl=False)
    elif len(kinds) == 1:
        print_kind(kinds[0], console_on(sys.stdout))
    else:
        print_kinds(kinds, console_on(sys.stdout))


def _named(code: str) -> Diagnosis:
    from gradscope.analysis.diagnoses.catalogue import diagnosis

    found = diagnosis(code.strip("[]"))  # as it stands on a screen
    if found is None:
        from gradscope.analysis.selection.codes import near_miss
        from gradscope.errors import UsageError

        raise UsageError(f"there is no diagnosis {code!r}", near_miss(code))
    return found


def _print_all() -> None:
    import sys

    from gradscope.analysis.diagnoses.catalogue import every_diagnosis

    if sys.stdout.isatty():
        from rich.console import Console

        from gradscope.report.explain.explain_screen import print_list

        print_list(every_diagnosis(), Console())
        return
    for known in every_diagnosis():
        typer.echo(f"{known.code}\t{known.severity}\t{known.title}")


def _print_one(known: Diagnosis, run: bool) -> None:
    import sys

    from gradscope.report.explain.explain_screen import print_example, print_explanation
    from gradscope.report.screen.pipe import console_on

    console = console_on(sys.stdout)
    print_explanation(known, console)
    if run:
        sys.stdout.flush()  # what needs no torch is there at once
        from gradscope.experiments.explain.example_runs import run_example

        print_example(known, run_example(known), console)


def _print_data(wanted: tuple[Diagnosis, ...], format: ExplainFormat) -> None:
    from gradscope.report.explain import explain_formats

    write = explain_formats.to_json if format is ExplainFormat.JSON else explain_formats.to_markdown
    typer.echo(write(wanted), nl=False)
