"""What of the process is changed while a program runs in it, and put back afterwards."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType, ModuleType
from typing import Any, NoReturn

from gradscope.frames.replacements import Replacement
from gradscope.frames.tracebacks import boundaries, clean_exception, clean_walkers
from gradscope.targets.program import Program

_PATIENCE = 0.002
"""Seconds after which a signal is sent again that came in the middle of our own work."""

_NOWHERE = ("<sys>", 0) if sys.version_info >= (3, 13) else ("sys", 1)
"""File and line of a warning that no frame is to blame for, as Python words it."""

ENDING_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Quiet(threading.local):
    """Whether warnings of the calling thread are swallowed: it evaluates what is no part of the program."""

    is_on = False


class ProgramProcess:
    """The process as the program shall see it.

    Args:
        program: What is run.
        args: The program's own arguments.
        hidden: Names of modules that gradscope has imported and the program has not: it finds its own.
        exiting: Called before ``os._exit`` ends the process, with the exit code.
        signalled: Called before SIGTERM or SIGHUP ends the process, with the signal's number.
        looked: Called at another signal, after which the process goes on; ``looks_at`` is its number, None: at none.
        is_busy: Tells whether the process cannot be ended at this moment: then the signal comes again shortly.
    """

    def __init__(
        self,
        program: Program,
        args: Collection[str],
        *,
        hidden: Collection[str],
        exiting: Callable[[int], None],
        signalled: Callable[[int], None],
        looked: Callable[[], object] = bool,
        looks_at: int | None = None,
        is_busy: Callable[[], bool] = bool,
    ) -> None:
        self._program = program
        self._args = list(args)
        self._hidden = hidden
        self._exiting = exiting
        self._signalled = signalled
        self._looked = looked
        self.looks_at = looks_at
        self._is_busy = is_busy
        self._restoring = ExitStack()
        self._own_modules: dict[str, ModuleType] = {}
        self._own_path: list[str] = []
        self.quiet = Quiet()
        self.pid = os.getpid()

    def enter(self) -> None:
        """Make the process the program's."""
        callbacks = self._restoring
        callbacks.enter_context(clean_walkers())
        for manager in (_end_by_exit, _thread_errors, _warnings, _signals):
            callbacks.enter_context(manager(self))
        before = (sys.argv, sys.orig_argv, sys.path, sys.modules.get("__main__"))
        callbacks.callback(_restore, *before)
        program = self._program
        started_as = [program.argv0]
        if program.kind.is_option:
            started_as = ["-c", program.source]
        elif program.kind.is_module:
            started_as = ["-m", program.module]
        is_searched = program.kind.is_module and program.module != "__main__"  # runpy puts the file's name there
        sys.argv = ["-m" if is_searched else program.argv0, *self._args]
        sys.orig_argv = [sys.executable, *started_as, *self._args]
        self._own_path = sys.path
        safe_path = getattr(sys.flags, "safe_path", False)
        sys.path = list(sys.path) if safe_path else [program.path0, *sys.path]
        self._own_modules = {name: sys.modules.pop(name) for name in self._hidden if name in sys.modules}

    def own_imports(self) -> None:
        """Let gradscope import its own modules again, whatever the program has put in their place."""
        sys.path = self._own_path
        sys.modules.update(self._own_modules)

    def restore(self) -> None:
        """Put everything back."""
        if self._own_path:
            self.own_imports()
        self._restoring.close()

    def is_child(self) -> bool:
        """Whether this is a child that the program has forked."""
        return os.getpid() != self.pid

    def enter_child(self) -> None:
        """Make this process the program's, one that has been set up to go on with a part of it."""
        for manager in (_end_by_exit, _signals):
            self._restoring.enter_context(manager(self))

    def exiting(self, code: int) -> None:
        """The program ends the process by ``os._exit``."""
        self._exiting(code)

    def signalled(self, number: int) -> None:
        """A signal ends the process, or asks for a look, now or shortly."""
        if self._is_busy():
            _thread.start_new_thread(_send_again, (number,))
            return
        if number == self.looks_at:
            self._looked()
            return
        self._signalled(number)
        die_by(number)


def let_end(numbers: Iterable[int], *ours: Any) -> None:
    """Let signals end the process again whose handler is still one of ours."""
    for number in numbers:
        if signal.getsignal(number) in ours:
            signal.signal(number, signal.SIG_DFL)


def die_by(number: int) -> NoReturn:
    """End the process by a signal, as if nobody had handled it."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)  # the signal is blocked


def die_by_interrupt() -> NoReturn:
    """End the process as Python ends after Ctrl-C that nobody caught: by SIGINT, once its output is written."""
    for stream in (sys.stdout, sys.stderr):
        flush_quietly(stream)
    die_by(signal.SIGINT)


def flush_quietly(stream: Any) -> None:
    """Flush a stream that may be closed, None, or a broken pipe: Python reports that when the process ends."""
    with suppress(Exception):
        stream.flush()


def _restore(argv: list[str], orig_argv: list[str], path: list[str], main: ModuleType | None) -> None:
    sys.argv, sys.orig_argv, sys.path = argv, orig_argv, path
    if main is not None:
        sys.modules["__main__"] = main


@contextmanager
def _end_by_exit(process: ProgramProcess) -> Iterator[None]:
    """``os._exit`` ends the process at once, but for the recording."""

    def completing(exit_at_once: Callable[[int], NoReturn]) -> Callable[[int], NoReturn]:
        def _exit(status: int) -> NoReturn:
            if not process.is_child() and isinstance(status, int):
                replaced.put_back()
                try:
                    process.exiting(status)
                finally:
                    exit_at_once(status)
            exit_at_once(status)

        return _exit

    with Replacement(os, "_exit", completing) as replaced:
        yield


@contextmanager
def _thread_errors(_: ProgramProcess) -> Iterator[None]:
    """What ends a thread is shown without our frames."""

    def cleaning(show: Callable[[Any], object]) -> Callable[[Any], None]:
        def excepthook(args: Any, /) -> None:
            error = args.exc_value
            if error is not None:
                clean_exception(error)
                args = threading.ExceptHookArgs((args.exc_type, error, error.__traceback__, args.thread))
            show(args)

        return excepthook

    with Replacement(threading, "excepthook", cleaning):
        yield


@contextmanager
def _warnings(process: ProgramProcess) -> Iterator[None]:
    """A warning put down to a frame below the program's is put down to nowhere, as where there is none."""
    below = _files_below() - {"<frozen runpy>"}

    def placing(show: Callable[[Any], None]) -> Callable[[Any], None]:
        def _showwarnmsg(message: Any) -> None:
            if process.quiet.is_on:
                return
            if message.filename in below:
                message.filename, message.lineno = _NOWHERE
            show(message)

        return _showwarnmsg

    with Replacement(warnings, "_showwarnmsg", placing):
        yield


def _files_below() -> set[str]:
    files = {code.co_filename for code in boundaries}
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        files.add(frame.f_code.co_filename)
        frame = frame.f_back
    return files


@contextmanager
def _signals(process: ProgramProcess) -> Iterator[None]:
    """SIGTERM and SIGHUP end the process as they would, once the recording is written; another asks for a look."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _: FrameType | None) -> None:
        process.signalled(number)

    wanted = {*ENDING_SIGNALS} if process.looks_at is None else {*ENDING_SIGNALS, process.looks_at}
    handled = {number for number in wanted if signal.getsignal(number) is signal.SIG_DFL}
    for number in handled:
        signal.signal(number, handle)
    _forks.append(_Fork(handle, handled))
    try:
        yield
    finally:
        _forks.pop()
        let_end(handled, handle)


def _send_again(number: int) -> None:
    time.sleep(_PATIENCE)
    os.kill(os.getpid(), number)


class _Fork:
    """Takes our signal handlers away in a forked child, and lets no signal in before that is done.

    Python forgets in the child what came in meanwhile, so a signal that a parent sends at once would be lost.
    """

    def __init__(self, handler: Any, signals: set[int]) -> None:
        self._handler = handler
        self._signals = signals
        self._mask: set[int] = set()

    def before(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)

    def in_parent(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def in_child(self) -> None:
        let_end(self._signals, self._handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


_forks: list[_Fork] = []
"""Of the run under way; empty without one, and the hooks below do nothing."""


def _at_fork(step: Callable[[_Fork], None]) -> Callable[[], None]:
    def hook() -> None:
        for fork in _forks:
            step(fork)

    return hook


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_at_fork(_Fork.before),
        after_in_parent=_at_fork(_Fork.in_parent),
        after_in_child=_at_fork(_Fork.in_child),
    )
