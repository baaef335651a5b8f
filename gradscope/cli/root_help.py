"""The help of ``gradscope`` itself, printed with the few parts of Rich that are quick to import."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

EXAMPLES = (
    ("gradscope run train.py", "what autograd did on each line"),
    ("gradscope run detach", "a built-in scenario"),
    ("gradscope compare", "nine ways to stop a gradient"),
    ("gradscope run -f json a.py | jq .memory", "for scripts"),
    ("gradscope run -o run.gradscope train.py", "keep the recording …"),
    ("gradscope report run.gradscope", "… and look at it again"),
)
EXIT_CODES = (
    "run: the program's own. The other commands: 0 done, 1 something differs or does not hold, "
    "2 wrong use or unreadable input, 3 a fault of gradscope's own."
)


class RootGroup(TyperGroup):
    """The command ``gradscope``."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Rich prints, as in Typer's own
        """Print the help."""
        console = Console(highlight=False, markup=False, emoji=False)
        console.print("Usage: gradscope COMMAND …\n")
        console.print(f"{self.help}\n")
        _section(console, "Commands", ((name, command.get_short_help_str(200)) for name, command in self._visible(ctx)))
        options = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        _section(console, "Options", (record for record in options if record is not None))
        _section(console, "Examples", EXAMPLES)
        console.print("Exit codes", style="bold")
        console.print(Padding(Text(EXIT_CODES), (0, 0, 1, 2)))
        console.print("gradscope COMMAND --help says more about a command.")

    def _visible(self, ctx: Any) -> list[tuple[str, Any]]:
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        return [(name, command) for name, command in commands if command is not None and not command.hidden]


def _section(console: Console, title: str, rows: Any) -> None:
    console.print(title, style="bold")
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(style="cyan")
    table.add_column()
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    console.print(Padding(table, (0, 0, 1, 0)))
