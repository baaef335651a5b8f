"""A console whose reader may leave."""

from __future__ import annotations

from rich.console import Console


class PipeConsole(Console):
    """Raises BrokenPipeError where nobody reads any more: rich itself would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        """Called while the BrokenPipeError is handled."""
        raise
