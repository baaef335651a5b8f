"""A console on a stream: a terminal, a file, or a pipe whose reader may leave."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console


class PipeConsole(Console):
    """Raises BrokenPipeError where nobody reads any more: rich itself would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Called while the BrokenPipeError is handled."""
        raise


def console_on(stream: TextIO, width: int | None = None, color: bool | None = None) -> PipeConsole:
    """A console on a stream.

    Args:
        stream: Where to.
        width: Columns; None: the terminal's.
        color: None: as the terminal and the environment (NO_COLOR, FORCE_COLOR) say.
    """
    no_color = None if color is None else not color
    # Rich shows in the cell of a notebook what is printed there, whatever stream it was to go to.
    return PipeConsole(file=stream, width=width, force_terminal=color, no_color=no_color, force_jupyter=False)
