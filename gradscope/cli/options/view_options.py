"""Options that say what to show of a run: the same for a program and for a recording."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated

import typer

from gradscope.errors import UsageError

SHOW = "What to show"

LineOption = Annotated[str, typer.Option("--line", metavar="N[-M]", help="Only these lines.", rich_help_panel=SHOW)]
AllOption = Annotated[bool, typer.Option("--all", help="Every row, however long the run was.", rich_help_panel=SHOW)]
OpsOption = Annotated[bool, typer.Option("--ops", help="Every op, not only lines.", rich_help_panel=SHOW)]


class Unit(str, Enum):
    """By what a run is shown."""

    LINE = "line"
    MODULE = "module"


ByOption = Annotated[
    Unit,
    typer.Option("--by", help="By line, or by module: a tree of the model.", rich_help_panel=SHOW),
]
GraphOption = Annotated[
    bool | None, typer.Option("--graph/--no-graph", help="The autograd graph.", rich_help_panel=SHOW)
]
MemoryOption = Annotated[
    bool | None, typer.Option("--memory/--no-memory", help="The memory of each line.", rich_help_panel=SHOW)
]
GradientsOption = Annotated[
    bool, typer.Option("--gradients", help="The size of each leaf's gradients.", rich_help_panel=SHOW)
]
ValuesOption = Annotated[bool, typer.Option("--values", help="The values of small CPU tensors.", rich_help_panel=SHOW)]
SummaryOption = Annotated[
    bool, typer.Option("--summary", help="Only the answers and the summary.", rich_help_panel=SHOW)
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
