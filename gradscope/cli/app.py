"""The command line: its commands, help and version. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import typer

import gradscope
from gradscope.cli import check as check_command
from gradscope.cli import compare as compare_command
from gradscope.cli import doctor as doctor_command
from gradscope.cli import eval as eval_command
from gradscope.cli import list as list_command
from gradscope.cli import report as report_command
from gradscope.cli import run as run_command
from gradscope.cli import schema as schema_command
from gradscope.cli import show as show_command
from gradscope.cli.deferred import Deferred
from gradscope.cli.quick_values import convert_quickly
from gradscope.cli.root_help import RootGroup
from gradscope.cli.trailing_options import options_first

app = typer.Typer(
    name="gradscope",
    cls=RootGroup,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run_command.register(app)
compare_command.register(app)
check_command.register(app)
eval_command.register(app)
report_command.register(app)
list_command.register(app)
show_command.register(app)
schema_command.register(app)
doctor_command.register(app)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"gradscope {gradscope.__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def gradscope_command(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does it
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Shows what PyTorch's autograd does in a program, line by line."""
    if context.invoked_subcommand is None:
        context.get_help()


def _in_order(command: Any, arguments: Sequence[str]) -> list[str]:
    """The arguments with the options of ``run`` before its target."""
    options = (parameter for parameter in command.commands["run"].params if parameter.param_type_name == "option")
    takes_value = {name: not option.is_flag for option in options for name in (*option.opts, *option.secondary_opts)}
    return options_first(arguments, takes_value)


def run_command_line(arguments: Sequence[str], modules_at_start: Collection[str]) -> int:
    """Parse a command line and do what it says; returns the exit code.

    Raises:
        GradscopeError: What was asked cannot be done.
    """
    state = Deferred(modules_at_start)
    command = typer.main.get_command(app)
    convert_quickly(command)
    try:
        command.main(args=_in_order(command, arguments), prog_name="gradscope", obj=state)
    except SystemExit as exiting:
        if exiting.code:
            return exiting.code if isinstance(exiting.code, int) else 1
    code = 0
    for work in state.work:
        code = work() or code
    return code
