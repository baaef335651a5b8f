"""``gradscope show``: the source of a target."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gradscope.cli.options.completion import complete_target


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    target: Annotated[
        str,
        typer.Argument(help="A built-in scenario, a file, or file.py::cell.", autocompletion=complete_target),
    ],
) -> None:
    """Show the source of a scenario or a file: highlighted on a terminal, as it is into a pipe or a file."""
    from rich.console import Console
    from rich.syntax import Syntax

    from gradscope.report.screen.text import safe
    from gradscope.targets.resolve import resolve

    source = resolve(target).source
    console = Console()
    if not console.is_terminal:
        sys.stdout.write(source if source.endswith("\n") or not source else source + "\n")
        return
    text = "\n".join(safe(line) for line in source.rstrip("\n").split("\n"))
    console.print(Syntax(text, "python", theme="ansi_dark", background_color="default", line_numbers=True))
