"""``gradscope eval``: its options."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from gradscope.cli.deferred import after_parsing, deferred
from gradscope.cli.options.completion import complete_target
from gradscope.cli.options.help_text import paragraphs
from gradscope.cli.requests import EvalRequest
from gradscope.errors import UsageError


class EvalFormat(str, Enum):
    """How to print the values."""

    TEXT = "text"
    JSON = "json"


EPILOG = """[bold]Examples[/bold]

tracked=$(gradscope eval train.py loss.requires_grad)

gradscope eval train.py 'saved_bytes(loss)' 'version(x)'

gradscope eval -f json detach a.grad | jq -c '."$tensor".values'

gradscope eval -c 'import torch; a = torch.ones(2)' a.dtype

The functions that gradscope check --help describes can be used. A string is printed as it is, but a line break in it as
\\n and a backslash as \\\\; -f json is exact. The program's own output goes to standard error. The
exit code is 0 when every value was printed; 1 when the program or an expression failed, and then no value is printed;
2 when the target or an expression cannot be understood.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog=paragraphs(EPILOG))(evaluate)


def evaluate(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="A file, file.py::cell, a built-in scenario, a REPL transcript, or - for standard input.",
            autocompletion=complete_target,
        ),
    ],
    expressions: Annotated[
        list[str], typer.Argument(metavar="EXPR...", help="Evaluated in the program's module when it is over.")
    ],
    is_code: Annotated[bool, typer.Option("-c", help="TARGET is Python code.")] = False,
    is_module: Annotated[bool, typer.Option("-m", help="TARGET is the name of a module.")] = False,
    format: Annotated[
        EvalFormat, typer.Option("--format", "-f", help="text, or json: a JSON value on each line.")
    ] = EvalFormat.TEXT,
) -> None:
    """Run a program and print the values of expressions, one on a line, for shell scripts."""
    if is_code and is_module:
        raise UsageError("-c and -m cannot be used together")
    request = EvalRequest(
        target=target,
        expressions=tuple(expressions),
        is_code=is_code,
        is_module=is_module,
        as_json=format is EvalFormat.JSON,
        modules_at_start=frozenset(deferred(context).modules_at_start),
    )

    def work() -> int:
        from gradscope.cli.eval_program import eval_program

        eval_program(request)

    after_parsing(context, work)
