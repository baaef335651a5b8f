"""A progress bar on standard error, for work that takes a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE = 1.0
"""Seconds of work after which the bar appears."""


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Gives what takes the number done and the number of all; None where standard error is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    task = bar.add_task(what, total=None)
    started = time.monotonic()

    def show(done: int, count: int) -> None:
        if time.monotonic() - started > _PATIENCE:
            bar.start()
        bar.update(task, completed=done, total=count)

    try:
        yield show
    finally:
        bar.stop()
