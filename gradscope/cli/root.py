"""The command ``gradscope`` itself: its commands, each imported when it is used, and its help.

The help is printed with the few parts of Rich that are quick to import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, cast

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from gradscope.cli.options.quick_values import convert_quickly

COMMANDS = {
    "run": "Run a program and show, line by line, what autograd did in it.",
    "why": "Answer one question about a run: the answer in a sentence, the way from the loss, and what to change.",
    "whatif": "Try one line of a program in variants, and show what each would save and what it would break.",
    "fix": "Find edits for what a run shows, and prove each by running the program with it.",
    "compare": "Run variants of a program and show, side by side, what autograd did differently in them.",
    "check": "Run programs and see whether what they expect of autograd holds.",
    "eval": "Run a program and print the values of expressions, one on a line, for shell scripts.",
    "report": "Show a recording that run wrote: the same tables and formats, and the program is not run again.",
    "export": "Write recordings as tables, partitioned by run and rank, for DuckDB, Polars, Spark or pandas.",
    "explain": "Explain a diagnosis: what it means, why torch behaves so, an example that is run, and how to mend it.",
    "help": "Show a page about a topic: in colour on a terminal, as Markdown into a pipe or a file.",
    "list": "List the built-in scenarios: names, titles, tags.",
    "show": "Show the source of a scenario or a file: highlighted on a terminal, as it is into a pipe or a file.",
    "schema": "Print the JSON Schema of the JSON that run and report, compare, check, why, whatif or fix write.",
    "mcp": "Serve run, why, compare, report and explain to assistants and editors: Model Context Protocol on stdio.",
    "doctor": "Say what gradscope finds here, and test it: exit code 0 fine, 1 the self-test failed, 2 no torch.",
}
"""What each command does, as its own help says it; the command of a name is in the module of that name."""

EXAMPLES = (
    ("gradscope run train.py", "what autograd did on each line"),
    ("gradscope run detach", "a built-in scenario"),
    ("gradscope why train.py model.fc.weight.grad", "why it is None, zero or NaN"),
    ("gradscope whatif train.py 23", "detach, no_grad … on your line"),
    ("gradscope fix train.py", "edits that were run, each with its proof"),
    ("gradscope compare", "nine ways to stop a gradient"),
    ("gradscope run -f json a.py | jq .memory", "for scripts"),
    ("gradscope run -o run.gradscope train.py", "keep the recording …"),
    ("gradscope report run.gradscope", "… and look at it again"),
)
EXIT_CODES = (
    "run: the program's own. The other commands: 0 done, 1 something differs, does not hold, has no answer or an edit, "
    "2 wrong use or unreadable input, 3 a fault of gradscope's own. --fail-on: 1 for such an answer."
)


class Commands(Mapping[str, Any]):
    """The commands by name; each is imported and built when it is first asked for."""

    def __init__(self) -> None:
        self._built: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._built:
            app = typer.Typer(rich_markup_mode="rich", add_completion=False)
            import_module(f"gradscope.cli.{name}").register(app)
            self._built[name] = typer.main.get_command(app)
            convert_quickly(self._built[name])
        return self._built[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class RootGroup(TyperGroup):
    """The command ``gradscope``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands = cast("dict[str, Any]", Commands())

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - Rich prints, as in Typer's own
        """Print the help."""
        console = Console(highlight=False, markup=False, emoji=False)
        console.print("Usage: gradscope COMMAND …\n")
        console.print(f"{self.help}\n")
        _section(console, "Commands", COMMANDS.items())
        options = (parameter.get_help_record(ctx) for parameter in self.get_params(ctx))
        _section(console, "Options", (record for record in options if record is not None))
        _section(console, "Examples", EXAMPLES)
        console.print("Exit codes", style="bold")
        console.print(Padding(Text(EXIT_CODES), (0, 0, 1, 2)))
        console.print("gradscope COMMAND --help says more about a command.")


def _section(console: Console, title: str, rows: Any) -> None:
    console.print(title, style="bold")
    table = Table.grid(padding=(0, 2), pad_edge=True)
    table.add_column(style="cyan")
    table.add_column()
    for name, text in rows:
        table.add_row(Text(name), Text(text))
    console.print(Padding(table, (0, 0, 1, 0)))
