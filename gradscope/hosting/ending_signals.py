"""SIGTERM and SIGHUP as exceptions, so that what was begun is cleaned up: processes ended, folders removed."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from gradscope.hosting.process import ENDING_SIGNALS, let_end


def _raise(number: int, _: FrameType | None) -> NoReturn:
    for ending in ENDING_SIGNALS:
        signal.signal(ending, signal.SIG_IGN)  # a second one must not interrupt the cleaning up
    raise SystemExit(128 + number)


@contextmanager
def raising_at_signals() -> Iterator[None]:
    """Raise SystemExit where such a signal would end the process; in other threads than the main one do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = [number for number in ENDING_SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _raise)
    try:
        yield
    finally:
        let_end(handled, _raise, signal.SIG_IGN)


def end_at_signals() -> None:
    """In a fork: what the parent has to clean up is none of its business."""
    let_end(ENDING_SIGNALS, _raise)
