"""Recording the processes that a program starts: each for itself, into files beside the program's own.

A fork is taken over where it begins. An interpreter that ``multiprocessing`` starts is given a line of ours to run
first; ``forkserver``'s own records nothing but hands on what it was told to its forks.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from gradscope.errors import GradscopeError
from gradscope.frames.own_packages import NamedPackages
from gradscope.frames.replacements import Replacement
from gradscope.hosting.process import ProgramProcess
from gradscope.hosting.program_recording import ProgramRecording
from gradscope.hosting.started_processes import StartedProcesses
from gradscope.recording import Recording
from gradscope.recording.file.store import RecordingWriter
from gradscope.targets.kinds import MODULE, SCRIPT
from gradscope.targets.program import Program

_SERVER = "from multiprocessing.forkserver import "


class ChildSettings(NamedTuple):
    """How children are recorded."""

    paths: tuple[str, ...]
    """The files of the program itself, absolute; those of its children are named after them."""
    values: bool
    max_ops: int | None
    nan: bool


class FollowedChildren:
    """Records what one process of a program starts.

    Args:
        program: The program.
        argv: As it sees it.
        settings: How.
        child: Which process of the program's this is; see :class:`gradscope.recording.RunInfo`.
    """

    def __init__(self, program: Program, argv: Sequence[str], settings: ChildSettings, child: str = "") -> None:
        self.program = program
        self.argv = list(argv)
        self.settings = settings
        self.child = child
        self.observed: ProgramRecording | None = None
        """What is recorded of this process: a fork inherits it and has no use for it."""

    def forked(self, number: int) -> None:
        """This process was forked: what it does from here on is recorded for itself."""
        observed = self.observed
        if observed is not None:
            if observed.is_complete:
                return
            observed.remove()
            if observed.recorder is not None:
                observed.recorder.stop()  # takes out of torch what it has put in; its rows are the parent's
        self._named(number).begin(os.getppid())

    def prelude(self, number: int, code: str) -> str:
        """What a Python that is to run some code of ``multiprocessing``'s runs before it."""
        if self.program.kind not in (SCRIPT, MODULE):
            return ""  # its functions are in no module that another interpreter could import
        kept = {name: getattr(self.program, name) for name in _KEPT}
        told = [kept, self.argv, self.settings, self._named(number).child, os.getpid()]
        call = f"follow({json.dumps(told)!r}, {code.startswith(_SERVER)})"
        own = f"try:\n from {__name__} import follow\nexcept ImportError: pass\nelse: {call}"
        return f"exec({own!r}); "

    def begin(self, parent: int) -> None:
        """Record this process to its end; where its files cannot be written, say so and let it be."""
        try:
            FollowedChild(self, parent).begin()
        except GradscopeError as error:
            _tell(f"child {self.child} is not recorded: {error}")

    def _named(self, number: int) -> FollowedChildren:
        child = f"{self.child}.{number}" if self.child else str(number)
        return FollowedChildren(self.program, self.argv, self.settings, child)


class FollowedChild:
    """One process that a program has started, while it is recorded.

    Args:
        children: What records those that it starts itself; says which it is.
        parent: Number of the process that started it.

    Raises:
        RecordingError: A file cannot be written.
    """

    def __init__(self, children: FollowedChildren, parent: int) -> None:
        settings, program = children.settings, children.program
        self._writers = [RecordingWriter(path_of_child(Path(path), children.child)) for path in settings.paths]
        self._started = StartedProcesses(children)
        self._observed = children.observed = ProgramRecording(
            program,
            children.argv,
            self._started.follow_commands,
            values=settings.values,
            max_ops=settings.max_ops,
            nan=settings.nan,
            on_flush=self._append,
        )
        self._process = ProgramProcess(
            program,
            children.argv[1:],
            hidden=(),
            exiting=self._ended,
            signalled=self._ended_by_signal,
            is_busy=self._is_busy,
        )
        info = self._observed.recording.info
        info.child, info.parent, info.children_followed = children.child, parent, True

    def begin(self) -> None:
        """Begin to record."""
        self._process.enter_child()
        for name, owner, make in (
            ("_exit_function", sys.modules.get("multiprocessing.util"), self._noting_error),
            ("_bootstrap", getattr(sys.modules.get("multiprocessing.process"), "BaseProcess", None), self._ending),
        ):
            if owner is not None:
                Replacement(owner, name, make)  # for good: the process has no other purpose
        self._started.install()
        self._observed.install()
        atexit.register(self._ended, 0)

    def _noting_error(self, exit_function: Callable[..., object]) -> Callable[..., None]:
        """``multiprocessing`` calls it while what ended the process's function is on its way."""

        def _exit_function(*arguments: Any) -> None:
            error = sys.exc_info()[1]
            if isinstance(error, SystemExit) and error.code:
                error = error.__context__  # it was shown to the parent, and the process ends
            if error is not None and not isinstance(error, SystemExit):
                self._observed.note_error(error)
            exit_function(*arguments)

        return _exit_function

    def _ending(self, bootstrap: Callable[..., int]) -> Callable[..., int]:
        def _bootstrap(process: Any, *arguments: Any, **named: Any) -> int:
            code = bootstrap(process, *arguments, **named)
            self._ended(code)
            return code

        return _bootstrap

    def _is_busy(self) -> bool:
        recorder = self._observed.recorder
        return recorder is not None and recorder.is_busy

    def _ended_by_signal(self, number: int) -> None:
        self._complete("signal", 128 + number, signal.Signals(number).name)

    def _ended(self, code: int) -> None:
        kind = "exception" if self._observed.outcome.error_type else "exit" if code else "ok"
        self._complete(kind, code & 0xFF, "")

    def _complete(self, kind: str, exit_code: int, message: str) -> None:
        outcome, observed = self._observed.outcome, self._observed
        if observed.is_complete:
            return
        outcome.kind, outcome.exit_code = kind, exit_code
        outcome.message = message or outcome.message
        observed.recording.info.children = self._started.count
        main: ModuleType | None = sys.modules.get("__main__")
        observed.complete(main.__dict__ if main is not None else None, bool)
        self._started.remove()
        for writer in self._writers:
            self._attempt(writer.close, observed.recording)

    def _append(self, recording: Recording) -> None:
        for writer in self._writers:
            self._attempt(writer.append, recording)

    def _attempt(self, write: Callable[[Recording], None], recording: Recording) -> None:
        try:
            write(recording)
        except GradscopeError as error:
            self._writers = [one for one in self._writers if write.__self__ is not one]  # type: ignore[attr-defined]
            _tell(str(error))


def path_of_child(path: Path, child: str) -> Path:
    """``run.gradscope`` is ``run.child1.gradscope`` for the first that a program starts."""
    return path.with_name(f"{path.stem}.child{child}{path.suffix}")


_KEPT = ("target", "filename", "name", "argv0", "path0", "title", "module", "user_root", "packages")
"""What of a program another interpreter must know; its source it reads itself."""


def follow(told: str, is_server: bool) -> None:
    """What a Python that was started for a program runs first; see :meth:`FollowedChildren.prelude`."""
    import multiprocessing.process
    import multiprocessing.util  # noqa: F401

    kept, argv, settings, child, parent = json.loads(told)
    kept["packages"] = NamedPackages(*map(tuple, kept["packages"]))
    program = Program(kind=MODULE if kept["module"] else SCRIPT, source="", **kept)
    paths, *others = settings
    children = FollowedChildren(program, argv, ChildSettings(tuple(paths), *others), child)
    if is_server:
        StartedProcesses(children).install()
    else:
        children.begin(parent)


def _tell(text: str) -> None:
    if sys.stderr is not None:
        print(f"gradscope: {text}", file=sys.stderr)
