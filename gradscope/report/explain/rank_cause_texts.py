"""What the causes mean that several processes show: a screen, JSON and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from gradscope.analysis.comparison.rank_cause_kinds import RankCauseKind
from gradscope.report.explain.explain_screen import WIDEST
from gradscope.report.screen.text import safe, source_lines, symbols


def print_kinds(kinds: Sequence[RankCauseKind], console: Console) -> None:
    """Print every kind with its title."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column()
    for known in kinds:
        table.add_row(Text(known.kind), Text(known.title))
    console.print(table)
    console.print(Text("\ngradscope explain CODE says what one means.", "dim"))


def print_kind(known: RankCauseKind, console: Console) -> None:
    """Print what one means, with lines of a program that show it."""
    console.print(Text.assemble((known.kind, "bold"), "  ", (known.title, "italic"), "  ", (known.severity, "dim")))
    for title, text in (
        ("What was seen, in the recordings of all ranks together", known.meaning),
        ("Why torch behaves so", known.reason),
        ("How to mend it", known.remedy),
    ):
        console.print(Text(f"\n{title}", style="bold"))
        for line in Text(safe(_flowing(text))).wrap(console, min(console.width, WIDEST) - 2):
            line.rstrip()
            console.print(Text.assemble("  ", line))
    console.print(Text("\nSo, on two ranks", style="bold"))
    for line in source_lines(known.shows.rstrip("\n"), symbols(console)):
        console.print(Text.assemble("  ", line))


def to_json(kinds: Sequence[RankCauseKind]) -> str:
    """An array of objects."""
    rows = [{**{name: _flowing(text) for name, text in one._asdict().items()}, "shows": one.shows} for one in kinds]
    return json.dumps(rows, indent=2, ensure_ascii=False) + "\n"


def to_markdown(kinds: Sequence[RankCauseKind]) -> str:
    """A section for each, as the documentation has them."""
    return "\n".join(
        f"### {known.kind}\n\n*{known.title}* ({known.severity})\n\n{_flowing(known.meaning)}\n\n"
        f"**Why torch behaves so.** {_flowing(known.reason)}\n\n**How to mend it.** {_flowing(known.remedy)}\n\n"
        f"```python\n{known.shows.rstrip()}\n```\n"
        for known in kinds
    )


def _flowing(text: str) -> str:
    return " ".join(text.split())
