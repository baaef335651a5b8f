"""Results of ``compare`` and ``check``, to the screen and to files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from gradscope.cli.options.output_options import Output
from gradscope.cli.output.failures import forget_standard_output, tell
from gradscope.errors import ExitCode, GradscopeError
from gradscope.report.formats import Format, ResultKind, format_named, format_of_file
from gradscope.report.output_files import STANDARD_OUTPUT, explained_output, open_output
from gradscope.report.screen.pipe import console_on


def deliver(
    output: Output,
    result: ResultKind,
    *,
    table: Callable[[Console], None],
    text: Callable[[Format], str],
) -> ExitCode:
    """Print a result and write it to files; what cannot be done is said and keeps nothing else from being done.

    Args:
        output: What was asked for.
        result: What it is.
        table: Prints the table.
        text: Gives the text of another format, and of any in a file.
    """
    code = ExitCode.OK
    try:
        _print(output, result, table, text)
    except BrokenPipeError:  # whoever read our output has had enough
        forget_standard_output()
    except GradscopeError as error:
        forget_standard_output()
        code = tell(error)
    for path in output.files:
        try:
            wanted = format_of_file(path, result)
            if wanted is not None:
                _write(path, text(wanted))
        except GradscopeError as error:
            code = tell(error)
    return code


def _print(output: Output, result: ResultKind, table: Callable[[Console], None], text: Callable[[Format], str]) -> None:
    if sys.stdout is None or not output.format:
        return
    if output.format != "table":
        _write(STANDARD_OUTPUT, text(format_named(output.format, result)))
        return
    with explained_output():
        table(console_on(sys.stdout, output.width, output.color))
        sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    """Write a file, in the place of one of that name; the path ``-`` is standard output."""
    with open_output(path) as stream:
        stream.write(text)
