"""Options about output that several commands take: the format, files, colour and width."""

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gradscope.report.formats import ResultKind, formats_of, suffixes_in_help

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


def files_option(result: ResultKind) -> Any:
    """``-o``, for a command that can write files of its result."""
    text = f"Write to a file; its suffix tells the format: {suffixes_in_help(result)}. Repeatable."
    return typer.Option("--output", "-o", metavar="FILE", help=text, rich_help_panel=OUTPUT)


def _format_option(result: ResultKind) -> Any:
    """``-f``: Typer knows choices by an enumeration."""
    names = Enum("Format", {known.name.upper(): known.name for known in formats_of(result)}, type=str)  # type: ignore[misc]
    return Annotated[names, typer.Option("--format", "-f", help="What to print.", rich_help_panel=OUTPUT)]


TABLE: Any = "table"
"""What is printed unless asked otherwise."""

if TYPE_CHECKING:  # for whom a type is written down, not made
    RunFormat = Enum
    CompareFormat = Enum
    CheckFormat = Enum
    WhyFormat = Enum
    WhatIfFormat = Enum
    FixFormat = Enum
else:
    RunFormat, CompareFormat, CheckFormat, WhyFormat, WhatIfFormat, FixFormat = map(
        _format_option, ("run", "compare", "check", "why", "whatif", "fix")
    )

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing.", rich_help_panel=OUTPUT)]
ColorOption = Annotated[Color, typer.Option("--color", help="Colours.", rich_help_panel=OUTPUT)]
WidthOption = Annotated[
    int | None, typer.Option("--width", min=40, help="Columns; else the terminal's.", rich_help_panel=OUTPUT)
]
