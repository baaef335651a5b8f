"""Options about output that several commands take: the format, files, colour and width."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

OUTPUT = "Output"


class Color(str, Enum):
    """When to use colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"

    @property
    def wanted(self) -> bool | None:
        """None: as the terminal, NO_COLOR and FORCE_COLOR say."""
        return {Color.AUTO: None, Color.ALWAYS: True, Color.NEVER: False}[self]


class TableFormat(str, Enum):
    """What to print of a run or a comparison."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    MARKDOWN = "markdown"
    SVG = "svg"


class Output(NamedTuple):
    """Where a result goes, and how it looks."""

    format: str
    """``table`` or a data format; empty: print nothing."""
    files: tuple[Path, ...]
    color: bool | None
    """None: as the terminal, NO_COLOR and FORCE_COLOR say."""
    width: int | None
    """None: the terminal's."""
    printed: bool
    """Show what the programs printed as well."""


def files_option(suffixes: str) -> Any:
    """``-o``, for a command that can write files with these suffixes."""
    text = f"Write to a file; its suffix tells the format: {suffixes}. Repeatable."
    return typer.Option("--output", "-o", metavar="FILE", help=text, rich_help_panel=OUTPUT)


FormatOption = Annotated[TableFormat, typer.Option("--format", "-f", help="What to print.", rich_help_panel=OUTPUT)]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.", rich_help_panel=OUTPUT)]
ColorOption = Annotated[Color, typer.Option("--color", help="Colours.", rich_help_panel=OUTPUT)]
WidthOption = Annotated[
    int | None, typer.Option("--width", min=40, help="Columns; else the terminal's.", rich_help_panel=OUTPUT)
]
