"""The recording of one process of a program: begun when torch has been imported, completed when the process ends."""

from __future__ import annotations

import linecache
import os
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from gradscope import collector
from gradscope.hosting.torch_import import TorchImport
from gradscope.recording import Fault, Outcome, Recording, SourceFile
from gradscope.recording.this_machine import describe_machine
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.recorder.session import Recorder


class ProgramRecording:
    """What is observed of a program in this process.

    Args:
        program: What is run.
        argv: As the program sees it.
        begun: Called once the recorder, if there is one, has started.
        records: Whether there is one; else torch only works, at its own speed.
        settings: Of the recorder: ``values``, ``max_ops``, ``on_flush``, ``nan``.
    """

    def __init__(
        self,
        program: Program,
        argv: Sequence[str],
        begun: Callable[[], object],
        *,
        records: bool = True,
        **settings: Any,
    ) -> None:
        self.program = program
        self.recording = Recording()
        """Complete once :meth:`complete` was called."""
        self.recorder: Recorder | None = None
        """None until the program has imported torch."""
        self.outcome = Outcome()
        self.raised: TracebackType | None = None
        """Of the error that ended the process; a reference that is given up when it has been looked at."""
        self.stands: Sequence[FrameType] = ()
        """Where its threads were when it was ended, the main one first."""
        self.is_complete = False
        self._begun = begun
        self._settings = settings
        self._faults: list[Fault] = []
        self._started = (datetime.now(timezone.utc), time.perf_counter_ns())
        self._pid = os.getpid()
        self._torch = TorchImport(self._begin if records else lambda: None)
        info = self.recording.info
        info.target, info.kind, info.title = program.target, program.kind.name, program.title
        info.argv, info.remarks = list(argv), list(program.remarks)

    def install(self) -> None:
        """Wait for torch; where it is there already, begin."""
        self._torch.install()

    def remove(self) -> None:
        """Wait no longer."""
        self._torch.remove()

    def note_error(self, error: BaseException) -> None:
        """Keep what ended the process; nothing is asked of a ``__str__`` that raises."""
        self.outcome.error_type, self.outcome.message = type(error).__qualname__, _text(error)
        self.outcome.traceback = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self.raised = error.__traceback__

    def complete(self, names: dict[str, Any] | None, before: Callable[[], object]) -> bool:
        """Complete the recording, once; whether this call did.

        Args:
            names: Of the program's ``__main__``.
            before: Called while rows can still be noted, if there is a recorder.
        """
        if self.is_complete:
            return False
        self.is_complete = True
        self._torch.remove()
        if self.recorder is None:
            self._describe_without_torch()
        else:
            try:
                before()
                self.recorder.stop(names, self.program.filename)
            except Exception:
                self._faults.append(Fault("stop", traceback.format_exc()))
        self._locate_error()
        self.recording.info.outcome = self.outcome
        self.recording.faults += self._faults
        return True

    def _begin(self) -> None:
        """Observe from here on: torch has just been imported. A fault of ours must not stop the program."""
        if os.getpid() != self._pid or self.is_complete:
            return
        with collector.resting():
            self._start_recorder()

    def _start_recorder(self) -> None:
        try:
            from gradscope.recorder.session import Recorder

            program = self.program
            sources = {program.filename: program.source} if program.text_differs_from_file else {}
            recorder = Recorder(is_user=program.is_user, sources=sources, **self._settings)
            recorder.recording.info = self.recording.info
            self.recording = recorder.recording
            recorder.start()
            self.recorder = recorder
            self._begun()
        except Exception:
            self._faults.append(Fault("start", traceback.format_exc()))

    def _describe_without_torch(self) -> None:
        info = self.recording.info
        info.started_at = self._started[0].isoformat(timespec="milliseconds")
        info.duration_ns = time.perf_counter_ns() - self._started[1]
        describe_machine(info)

    def _locate_error(self) -> None:
        """Put down the error, or where the program stood when it was ended, to the innermost frame of the user's."""
        trace, self.raised = self.raised, None
        while trace is not None:
            filename = trace.tb_frame.f_code.co_filename
            if self.program.is_user(filename):
                self.outcome.file, self.outcome.line = self._file(filename), trace.tb_lineno
            trace = trace.tb_next

        for frame in self.stands:
            if self._locate_frame(frame):
                break
        self.stands = ()

    def _locate_frame(self, innermost: FrameType) -> bool:
        """Put down the end to the innermost frame of the user's in a thread; whether there is one."""
        frame: FrameType | None = innermost
        while frame is not None:
            filename = frame.f_code.co_filename
            if self.program.is_user(filename):
                self.outcome.file, self.outcome.line = self._file(filename), frame.f_lineno
                return True
            frame = frame.f_back
        return False

    def _file(self, filename: str) -> int:
        files = self.recording.files
        for position, file in enumerate(files):
            if file.path == filename:
                return position
        is_target = filename == self.program.filename
        text = self.program.source if is_target else _read(filename)
        files.append(SourceFile(filename, self.program.name if is_target else filename, text))
        return len(files) - 1


def _read(filename: str) -> str:
    return "".join(linecache.getlines(filename))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as failure:
        return f"<{type(failure).__qualname__} in __str__>"
