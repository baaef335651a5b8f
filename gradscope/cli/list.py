"""``gradscope list``: the built-in scenarios."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from gradscope.cli.options.completion import complete_tag

if TYPE_CHECKING:
    from gradscope.targets.scenarios import Scenario


class ListFormat(str, Enum):
    """How to show the scenarios."""

    TABLE = "table"
    JSON = "json"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list")(list_scenarios)


def list_scenarios(
    format: Annotated[ListFormat, typer.Option("--format", "-f", help="What to print.")] = ListFormat.TABLE,
    tag: Annotated[str, typer.Option(help="Only scenarios with this tag.", autocompletion=complete_tag)] = "",
) -> None:
    """List the built-in scenarios: names, titles, tags.

    Into a pipe, one scenario a line, the columns separated by tabs.
    """
    import sys

    from gradscope.targets.scenarios import all_scenarios

    scenarios = [scenario for scenario in all_scenarios() if not tag or tag in scenario.tags]
    if format is ListFormat.JSON:
        rows = [
            {"name": item.name, "title": item.title, "tags": list(item.tags), "path": str(item.path)}
            for item in scenarios
        ]
        typer.echo(json.dumps(rows, indent=2, ensure_ascii=False))
    elif not scenarios:
        typer.echo("no scenario has this tag" if tag else "this installation has no scenarios", err=True)
    elif sys.stdout.isatty():
        _print_table(scenarios)
    else:
        for item in scenarios:
            typer.echo(f"{item.name}\t{item.title}\t{', '.join(item.tags)}")


def _print_table(scenarios: list[Scenario]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True, style="cyan")
    table.add_column("title", ratio=3)
    table.add_column("tags", ratio=1, style="dim")
    for item in scenarios:
        table.add_row(item.name, item.title, ", ".join(item.tags))
    Console().print(table, markup=False)
