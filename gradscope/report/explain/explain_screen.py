"""The screens of ``explain``: every diagnosis in a line, and one of them for people who meet it for the first time."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradscope.analysis.diagnoses.diagnosis import Diagnosis
from gradscope.analysis.edits.edit_catalogue import editable_codes
from gradscope.experiments.explain.measured import Measured
from gradscope.report.screen.text import safe, source_lines, symbols

WIDEST = 100
"""Columns of a paragraph, however wide the terminal is."""


def print_list(catalogue: Sequence[Diagnosis], console: Console) -> None:
    """Print every code with its severity and title."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("code", no_wrap=True, style="cyan")
    table.add_column("severity", no_wrap=True)
    table.add_column("what it says")
    for known in catalogue:
        table.add_row(Text(known.code), Text(known.severity), Text(known.title))
    console.print(table)
    console.print(
        Text(
            "\ngradscope explain CODE says what one means, and runs an example of it; ranks: what several processes "
            "show; torch-versions: what changed.",
            "dim",
        )
    )


def print_explanation(known: Diagnosis, console: Console) -> None:
    """Print what a diagnosis means, without its example."""
    console.print(Text.assemble((known.code, "bold"), "  ", (known.title, "italic"), "  ", (known.severity, "dim")))
    explanation = known.explanation
    for title, text in (
        ("What was seen", explanation.meaning),
        ("Why torch behaves so", explanation.reason),
        ("How to mend it", explanation.remedy),
    ):
        _section(console, title)
        _paragraph(console, " ".join(text.split()))
    if known.code in editable_codes():
        _paragraph(console, "gradscope fix TARGET tries edits of the source for it, and proves them by running them.")


def print_example(known: Diagnosis, measured: Measured, console: Console) -> None:
    """Print a diagnosis's example, what was measured of it, and what takes the diagnosis away."""
    marks = symbols(console)
    example = known.example
    _section(console, "Example")
    for number, line in enumerate(source_lines(example.shows.rstrip("\n"), marks), 1):
        text = Text.assemble((f"  {number:>2}  ", "dim"), line)
        text.rstrip()
        console.print(text)
    if measured.error:
        _section(console, "What torch raises")
        _paragraph(console, measured.error)
    _section(console, "What gradscope says of it (run just now)")
    for sentence in measured.sentences:
        _paragraph(console, sentence)
    if not measured.sentences:
        _paragraph(console, "nothing under this code, with the torch that is installed here")
    _section(console, f"With this in place of line {example.line}")
    for line in source_lines(example.silent, marks):
        console.print(Text.assemble("      ", line))
    said = " ".join(measured.healthy_sentences) or "nothing under this code is said any more (run just now)"
    _paragraph(console, said)


def _section(console: Console, title: str) -> None:
    console.print(Text(f"\n{title}", style="bold"))


def _paragraph(console: Console, text: str) -> None:
    for line in Text(safe(text)).wrap(console, min(console.width, WIDEST) - 2):
        line.rstrip()
        console.print(Text.assemble("  ", line))
