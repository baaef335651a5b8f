"""Results of ``compare`` and ``check``: to files, whose formats are known before anything is run, and to the screen."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from pathlib import Path

from rich.console import Console

from gradscope.cli.output_options import Output
from gradscope.errors import UsageError
from gradscope.report.console_pipe import console_on
from gradscope.report.write import STANDARD_OUTPUT, check_place, open_output


def check_file(path: Path, suffixes: Collection[str]) -> None:
    """Say before anything is run that a file cannot be written.

    Raises:
        UsageError: Its suffix tells no format, or it cannot be written.
    """
    if path.suffix.lower() not in suffixes:
        raise UsageError(f"cannot tell a format from {path}", "name a file that ends in one of " + " ".join(suffixes))
    check_place(path)


def write_text(path: Path, text: str) -> None:
    """Write a file, in the place of one of that name; the path ``-`` is standard output.

    Raises:
        GradscopeError: It cannot be written.
    """
    with open_output(path) as stream:
        stream.write(text)


def print_result(output: Output, table: Callable[[Console], None], data: Callable[[str], str]) -> None:
    """Print a result as it was asked for.

    Args:
        output: What was asked for.
        table: Prints the table.
        data: Gives the text of a data format.
    """
    if sys.stdout is None or not output.format:
        return
    if output.format == "table":
        table(console_on(sys.stdout, output.width, output.color))
        sys.stdout.flush()
    else:
        write_text(STANDARD_OUTPUT, data(output.format))
