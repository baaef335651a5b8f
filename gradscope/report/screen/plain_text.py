"""A screen as text, for a file or another program: without colour, as wide as is asked."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import TypeVar

from rich.console import Console

from gradscope.report.screen.pipe import console_on

DOCUMENT_WIDTH = 100
"""Columns of a picture or a text file, where nobody says otherwise."""

Result = TypeVar("Result")


def plain_text(render: Callable[[Result, Console], None], result: Result, width: int | None = None) -> str:
    """What a function shows of a result.

    Args:
        render: Writes the result to a console.
        result: What is shown.
        width: Columns; None: as many as a document has.
    """
    stream = StringIO()
    render(result, console_on(stream, width or DOCUMENT_WIDTH, color=False))
    return stream.getvalue()
