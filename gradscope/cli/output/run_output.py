"""What ``gradscope run`` shows and writes once the program is over."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.options.process_options import ChildProcesses
from gradscope.cli.output.failures import note, tell
from gradscope.cli.output.judged_answers import judge
from gradscope.cli.output.streams import ResultStream
from gradscope.cli.requests import RunRequest
from gradscope.errors import ExitCode, GradscopeError, UsageError
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording import Recording
from gradscope.recording.launch import Launch, launched_as, path_of_rank, ranks_in
from gradscope.report.formats import format_named, format_of_file
from gradscope.report.output_files import STANDARD_OUTPUT, check_output, explained_output, write_file
from gradscope.report.run.run_result import RunResult

if TYPE_CHECKING:
    from gradscope.recording.file.store import RecordingWriter


class RunOutput:
    """The result of one run, on its way to standard output and to files.

    Raises:
        GradscopeError: A file cannot be written; known before the program is run.
    """

    def __init__(self, request: RunRequest) -> None:
        self._request = request
        launch = launched_as()
        self._prints = launch is None or launch.rank in ranks_in(request.ranks, launch.world_size)
        outputs = [_of_this_process(_checked(path), launch) for path in request.outputs]
        self._recordings = _writers([path for path in outputs if format_of_file(path, "run") is None])
        for writer in self._recordings:
            if writer.path != writer.wanted:
                note(f"another run is writing {writer.wanted}: this one goes to {writer.path}")
        if request.children is ChildProcesses.FOLLOW and not self._recordings:
            raise UsageError("--children follow writes recordings beside the program's own", "add -o run.gradscope")
        self._said = {writer.path for writer in self._recordings}
        self._documents = [path for path in outputs if format_of_file(path, "run") is not None]
        self._stream = ResultStream(to_stderr=request.format not in ("", "table"))
        self._unwritable: set[RecordingWriter] = set()
        self.failure = ExitCode.OK
        """Set where something could not be shown or written, or an answer is a ground to fail."""

    @property
    def recording_paths(self) -> tuple[str, ...]:
        """Where the program's own recording goes."""
        return tuple(str(writer.path) for writer in self._recordings)

    @property
    def on_flush(self) -> Callable[[Recording], None] | None:
        """What takes each batch of rows while the program runs, so that a program that is killed leaves a recording."""
        return self._append if self._recordings else None

    def finish(self, run: ProgramRun) -> None:
        """Show and write a complete recording; what goes wrong here does not change how the program ended."""
        result = RunResult(run.recording, self._request.view)
        for writer in self._recordings:
            self._attempt(writer.close, run.recording)
            if writer.path not in self._said:
                note(f"another run has taken {writer.wanted}: this one is in {writer.path}")
        for path in self._documents:
            self._attempt(write_file, result, path)
        stream = self._stream.stream
        if self._request.format and stream is not None and (self._prints or run.exit_code):
            self._attempt(self._show, result, stream)
        self._attempt(self._judge, result)

    def show_so_far(self, run: ProgramRun) -> None:
        """Show a recording that goes on, on standard error; in a fork of the program's process."""
        result = RunResult(run.recording, self._request.view)
        with open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False) as stream, explained_output():
            format_named("table", "run").writer("run")(result, stream)

    def _append(self, recording: Recording) -> None:
        for writer in self._recordings:
            if writer not in self._unwritable:
                try:
                    writer.append(recording)
                except GradscopeError:
                    self._unwritable.add(writer)  # said when it is closed, if it cannot be written then either

    def _attempt(self, step: Callable[..., None], *details: object) -> None:
        try:
            step(*details)
        except BrokenPipeError:  # whoever read our output has had enough
            self._stream.forget()
        except Exception as error:
            self.failure = tell(error)

    def _judge(self, result: RunResult) -> None:
        self.failure = judge(result, self._request.answers) or self.failure

    def _show(self, result: RunResult, stream: io.TextIOWrapper) -> None:
        if self._request.format != "table":
            stream.reconfigure(encoding="utf-8", newline="")
        try:
            with explained_output():
                format_named(self._request.format, "run").writer("run")(result, stream)
                stream.flush()
        except GradscopeError:
            self._stream.forget()
            raise


def _checked(path: Path) -> Path:
    if path == STANDARD_OUTPUT:
        raise UsageError("-o - does not say in which format", "print a format with -f: gradscope run -f json …")
    check_output(path, "run")
    return path


def _of_this_process(path: Path, launch: Launch | None) -> Path:
    """Where a file goes whatever the program makes the current folder; links are kept."""
    return path_of_rank(Path(os.path.abspath(path)), launch)  # noqa: PTH100


def _writers(paths: list[Path]) -> list[RecordingWriter]:
    if not paths:
        return []
    from gradscope.recording.file.store import RecordingWriter

    return [RecordingWriter(path) for path in paths]
