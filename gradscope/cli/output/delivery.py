"""Results of ``compare`` and ``check``: to files, whose formats are known before anything is run, and to the screen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path

from rich.console import Console

from gradscope.cli.options.output_options import Output
from gradscope.cli.output.failures import forget_standard_output, tell
from gradscope.errors import ExitCode, GradscopeError, UsageError
from gradscope.report.output_files import STANDARD_OUTPUT, check_place, explained_output, open_output
from gradscope.report.screen.pipe import console_on


def check_file(path: Path, suffixes: Collection[str]) -> None:
    """Say before anything is run that a file cannot be written.

    Raises:
        UsageError: Its suffix tells no format, or it cannot be written.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"cannot tell a format from {path}", "name a file that ends in one of " + " ".join(suffixes))
    check_place(path)


def deliver(
    output: Output,
    *,
    table: Callable[[Console], None],
    data: Callable[[str], str],
    document: Callable[[Path], str],
) -> ExitCode:
    """Print a result and write it to files; what cannot be done is said and keeps nothing else from being done.

    Args:
        output: What was asked for.
        table: Prints the table.
        data: Gives the text of a data format.
        document: Gives the text of a file.
    """
    code = ExitCode.OK
    try:
        _print(output, table, data)
    except BrokenPipeError:  # whoever read our output has had enough
        forget_standard_output()
    except GradscopeError as error:
        forget_standard_output()
        code = tell(error)
    for path in output.files:
        try:
            _write(path, document(path))
        except GradscopeError as error:
            code = tell(error)
    return code


def _print(output: Output, table: Callable[[Console], None], data: Callable[[str], str]) -> None:
    if sys.stdout is None or not output.format:
        return
    if output.format != "table":
        _write(STANDARD_OUTPUT, data(output.format))
        return
    with explained_output():
        table(console_on(sys.stdout, output.width, output.color))
        sys.stdout.flush()


def _write(path: Path, text: str) -> None:
    """Write a file, in the place of one of that name; the path ``-`` is standard output."""
    with open_output(path) as stream:
        stream.write(text)
