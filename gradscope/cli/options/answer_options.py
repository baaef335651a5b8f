"""Options that say which answers are wanted, and which make a command fail: the same for a program and a recording."""

# Types are evaluated here: a named tuple would compile each that is left as text, and every command would wait for it.

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gradscope.cli.options.completion import complete_codes, complete_grounds
from gradscope.cli.options.project_settings import ProjectSettings

if TYPE_CHECKING:
    from gradscope.analysis.selection.answer_selection import AnswerSelection
    from gradscope.analysis.selection.baseline import Baseline
else:
    Baseline = AnswerSelection = Any  # imported where an option asks for one

ANSWERS = "Which answers"

AllAnswersOption = Annotated[
    bool,
    typer.Option("--all-answers", help="Every answer in full, also several of one cause.", rich_help_panel=ANSWERS),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        "--select",
        metavar="CODES",
        help="Only these, with commas between: gradscope explain lists the codes. Repeatable.",
        rich_help_panel=ANSWERS,
        autocompletion=complete_codes,
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(
        "--ignore",
        metavar="CODES",
        help="Not these; of one line: a comment # gradscope: ignore[CODE]. Repeatable.",
        rich_help_panel=ANSWERS,
        autocompletion=complete_codes,
    ),
]
BaselineOption = Annotated[
    Path | None,
    typer.Option("--baseline", metavar="FILE", help="Not those that this file accepts.", rich_help_panel=ANSWERS),
]
WriteBaselineOption = Annotated[
    Path | None,
    typer.Option(
        "--write-baseline",
        metavar="FILE",
        help="Accept those of now: write them to a file, with those of --baseline.",
        rich_help_panel=ANSWERS,
    ),
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-on",
        metavar="problem|warning|CODES",
        help="Exit with 1 where there is such an answer, or a worse one. Repeatable.",
        rich_help_panel=ANSWERS,
        autocompletion=complete_grounds,
    ),
]


class AnswersAsked(NamedTuple):
    """Which answers are wanted, and what they are for."""

    selection: AnswerSelection | None
    """None: all."""
    fail_on: frozenset[str]
    """Codes and severities."""
    new_baseline: Baseline | None
    """Where the answers are to be accepted."""


def asked_answers(
    settings: ProjectSettings,
    select: list[str] | None,
    ignore: list[str] | None,
    baseline: Path | None,
    write_baseline: Path | None,
    fail_on: list[str] | None,
) -> AnswersAsked:
    """What the options ask, and ``pyproject.toml`` where an option was not given. Nothing heavy is imported for none.

    Raises:
        UsageError: A code is not a diagnosis's, or the baseline cannot be read or written.
    """
    select_from = settings.codes("select", select)
    ignore_from = settings.codes("ignore", ignore)
    fail_on_from = settings.codes("fail-on", fail_on)
    known = baseline or settings.path("baseline")
    if not (select_from[0] or ignore_from[0] or fail_on_from[0] or known or write_baseline):
        return AnswersAsked(None, frozenset(), None)
    from gradscope.analysis.selection.answer_selection import AnswerSelection
    from gradscope.analysis.selection.baseline import Baseline, read_baseline
    from gradscope.analysis.selection.codes import checked_codes, checked_grounds
    from gradscope.report.output_files import check_place

    new = None
    if write_baseline is not None:
        check_place(write_baseline)
        new = Baseline(write_baseline, {})
    accepted = None
    is_written_anew = new is not None and known is not None and new.path == known.absolute() and not known.exists()
    if known is not None and not is_written_anew:
        accepted = read_baseline(known)
    if new is not None and accepted is not None:
        new = new.with_findings_of(accepted)
    return AnswersAsked(
        AnswerSelection(
            select=checked_codes(*select_from) if select_from[0] else None,
            ignore=checked_codes(*ignore_from),
            baseline=accepted,
        ),
        checked_grounds(*fail_on_from),
        new,
    )
