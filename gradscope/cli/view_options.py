"""Options that say what to show of a run and how: the same for a program and for a recording."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

import typer

from gradscope.errors import UsageError

SHOW = "What to show"
OUTPUT = "Output"


class Color(str, Enum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def wanted(self) -> bool | None:
        """None: as the terminal and the environment say."""
        return {Color.AUTO: None, Color.ALWAYS: True, Color.NEVER: False}[self]


class RunFormat(str, Enum):
    """What to print."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    SVG = "svg"


LineOption = Annotated[str, typer.Option("--line", metavar="N[-M]", help="Only these lines.", rich_help_panel=SHOW)]
AllOption = Annotated[bool, typer.Option("--all", help="Every row, however long the run was.", rich_help_panel=SHOW)]
OpsOption = Annotated[bool, typer.Option("--ops", help="Every op, not only lines.", rich_help_panel=SHOW)]
GraphOption = Annotated[
    bool | None, typer.Option("--graph/--no-graph", help="The autograd graph.", rich_help_panel=SHOW)
]
MemoryOption = Annotated[
    bool | None, typer.Option("--memory/--no-memory", help="The memory of each line.", rich_help_panel=SHOW)
]
ValuesOption = Annotated[bool, typer.Option("--values", help="The values of small CPU tensors.", rich_help_panel=SHOW)]
SummaryOption = Annotated[
    bool, typer.Option("--summary", help="Only the answers and the summary.", rich_help_panel=SHOW)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.", rich_help_panel=OUTPUT)]
FormatOption = Annotated[RunFormat, typer.Option("--format", "-f", help="What to print.", rich_help_panel=OUTPUT)]
ColorOption = Annotated[Color, typer.Option("--color", help="Colours.", rich_help_panel=OUTPUT)]
WidthOption = Annotated[
    int | None, typer.Option("--width", min=40, help="Columns; else the terminal's.", rich_help_panel=OUTPUT)
]


def line_range(text: str) -> tuple[int, int] | None:
    """First and last line of ``--line``.

    Raises:
        UsageError: It is no line and no range of lines.
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+)(?:\s*[-:]\s*(\d+))?", text.strip())
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise UsageError(f"--line {text!r} is no line or range of lines", "write --line 12 or --line 12-20")
    return first, last
