"""The command line: from its arguments to the command that they name. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated, Any

import typer

from gradscope.cli.deferred import Deferred
from gradscope.cli.options.quick_values import convert_quickly
from gradscope.cli.options.trailing_options import options_first
from gradscope.cli.root import RootGroup
from gradscope.version import VERSION

app = typer.Typer(
    name="gradscope",
    cls=RootGroup,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"gradscope {VERSION}")
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


def _split(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments, and what stands behind ``--`` where variants may stand before it: the program's own."""
    given = list(arguments)
    if given[:1] != ["whatif"] or "--" not in given:
        return given, ()
    at = given.index("--")
    return given[:at], tuple(given[at + 1 :])


def _in_order(command: Any, arguments: list[str]) -> list[str]:
    """The arguments with the options of ``run`` before its target."""
    if arguments[:1] != ["run"]:
        return arguments
    options = (parameter for parameter in command.commands["run"].params if parameter.param_type_name == "option")
    takes_value = {name: not option.is_flag for option in options for name in (*option.opts, *option.secondary_opts)}
    return options_first(arguments, takes_value)


def run_command_line(arguments: Sequence[str], modules_at_start: Collection[str]) -> int:
    """Parse a command line and do what it says; returns the exit code.

    Raises:
        GradscopeError: What was asked cannot be done.
    """
    given, behind = _split(arguments)
    state = Deferred(modules_at_start, behind)
    command = typer.main.get_command(app)
    convert_quickly(command)
    try:
        command.main(args=_in_order(command, given), prog_name="gradscope", obj=state)
    except SystemExit as exiting:
        if exiting.code:
            return exiting.code if isinstance(exiting.code, int) else 1
    code = 0
    for work in state.work:
        code = work() or code
    return code
