"""What ``gradscope run`` shows and writes once the program is over."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.cli.options.process_options import ChildProcesses
from gradscope.cli.output.failures import note, tell
from gradscope.cli.output.judged_answers import judge
from gradscope.cli.output.progress_words import progress_words
from gradscope.cli.output.streams import ResultStream
from gradscope.cli.requests import RunRequest
from gradscope.errors import ExitCode, GradscopeError, RecordingError, UsageError
from gradscope.hosting.program_run import ProgramRun
from gradscope.hosting.progress_line import Progress
from gradscope.recording import Recording
from gradscope.recording.launch import Launch, launched_as, path_of_rank, ranks_in
from gradscope.recording.program_end import program_end
from gradscope.report.formats import format_named, format_of_file
from gradscope.report.output_files import STANDARD_OUTPUT, check_place, explained_output, write_file
from gradscope.report.run.run_result import RunResult

if TYPE_CHECKING:
    from gradscope.recording.file.store import RecordingWriter


class RunOutput:
    """The result of one run, on its way to standard output and to files.

    A file that may not be written, or a disk that is full, takes nothing from the program: it is said in one line, and
    the program runs. A name for which there can be no file is refused; but of a process that a launcher started, which
    would end the others with this one, it is said like the rest.

    Raises:
        UsageError: A name is no good; known before the program is run.
    """

    def __init__(self, request: RunRequest) -> None:
        self._request = request
        self._launch = launched_as()
        self._began = time.time()
        self.failure = ExitCode.OK
        """Set where something could not be shown or written, or an answer is a ground to fail."""
        launch = self._launch
        printing = ranks_in(request.ranks, launch.world_size if launch is not None else 1)
        self._prints = launch is None or launch.rank in printing
        is_recording = [format_of_file(_named(path), "run") is None for path in request.outputs]
        if request.children is ChildProcesses.FOLLOW and not any(is_recording):
            raise UsageError("--children follow writes recordings beside the program's own", "add -o run.gradscope")
        outputs = [_of_this_process(path, launch) for path in request.outputs]
        self._documents: list[Path] = []
        self._recordings: list[RecordingWriter] = []
        for path, records in zip(outputs, is_recording, strict=True):
            self._attempt_to_open(path, records=records)
        for writer in self._recordings:
            if writer.path != writer.wanted:
                note(f"another run is writing {writer.wanted}: this one goes to {writer.path}")
        self._said = {writer.path for writer in self._recordings}
        self._stream = ResultStream(to_stderr=request.format not in ("", "table"))
        self._unwritable: set[RecordingWriter] = set()

    @property
    def recording_paths(self) -> tuple[str, ...]:
        """Where the program's own recording goes."""
        return tuple(str(writer.path) for writer in self._recordings)

    @property
    def on_flush(self) -> Callable[[Recording], None] | None:
        """What takes each batch of rows while the program runs, so that a program that is killed leaves a recording."""
        return self._append if self._recordings else None

    @property
    def progress(self) -> Callable[[Progress], str] | None:
        """What tells how far the program has come: of several processes those that print."""
        if not self._request.progress or not self._prints:
            return None
        number = self._request.looks_at
        return partial(progress_words, shown_at=None if number is None else signal.Signals(number).name)

    def finish(self, run: ProgramRun) -> None:
        """Show and write a complete recording; what goes wrong here does not change how the program ended."""
        result = RunResult(run.recording, self._request.view)
        if run.recording.info.outcome.kind == "timeout":
            self._tell_of_time(run.recording)
        for writer in self._recordings:
            self._attempt_to_write(writer.close, run.recording)
            if writer.path not in self._said:
                note(f"another run has taken {writer.wanted}: this one is in {writer.path}")
        for path in self._documents:
            self._attempt_to_write(write_file, result, path)
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

    def _attempt_to_open(self, path: Path, *, records: bool) -> None:
        """Begin a file, so that what is wrong with it is known before the program runs."""
        try:
            check_place(path)
            if records:
                self._recordings.append(_writer(path))
            else:
                self._documents.append(path)
        except (UsageError, RecordingError) as error:
            if type(error) is UsageError and self._launch is None:
                raise
            self._tell_of_file(error, "; the program runs without it")

    def _attempt_to_write(self, step: Callable[..., None], *details: object) -> None:
        try:
            step(*details)
        except GradscopeError as error:
            self._tell_of_file(error, "")
        except Exception as error:
            self.failure = tell(error)

    def _tell_of_time(self, recording: Recording) -> None:
        """Say, whatever is printed, that the program was ended, and where it stood."""
        outcome = recording.info.outcome
        where = ""
        if 0 <= outcome.file < len(recording.files):
            source = recording.source(outcome.file, outcome.line).strip()
            where = f" at {recording.files[outcome.file].name}:{outcome.line}: {source}"
        note(f"{self._rank()}the program {program_end(outcome.kind, None, outcome.message)}{where}")

    def _rank(self) -> str:
        return "" if self._launch is None else f"{self._launch.name}: "

    def _tell_of_file(self, error: GradscopeError, then: str) -> None:
        """Say that a file cannot be written. To a launcher the process does not fail by it: others would be ended."""
        note(f"{self._rank()}{error.message}{f' ({error.hint})' * bool(error.hint)}{then}")
        if self._launch is None:
            self.failure = error.exit_code

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
                if self._request.format == "table":
                    self._show_others(stream)
                stream.flush()
        except GradscopeError:
            self._stream.forget()
            raise

    def _show_others(self, stream: io.TextIOWrapper) -> None:
        """Show in what the other processes of a job differ, or how that is shown once they are over as well."""
        if self._launch is None or not self._recordings:
            return
        from gradscope.cli.output.other_ranks import beside_others
        from gradscope.report.ranks.ranks_screen import render_ranks
        from gradscope.report.screen.pipe import console_on

        writer, view = self._recordings[0], self._request.view
        stream.flush()
        merged = beside_others(writer.path, self._launch, self._began, view) if writer.path == writer.wanted else None
        if merged is not None:
            stream.write("\n")
            render_ranks(merged, console_on(stream, view.width, view.color))
            stream.write("\n")
        name = writer.wanted.name.replace(f".rank{self._launch.rank}.", ".rank*.")
        shown = os.path.relpath(writer.wanted.with_name(name))
        stream.write(
            f"The {self._launch.world_size} ranks together, and in what they differ: gradscope report {shown}\n"
        )


def _named(path: Path) -> Path:
    if path == STANDARD_OUTPUT:
        raise UsageError("-o - does not say in which format", "print a format with -f: gradscope run -f json …")
    return path


def _of_this_process(path: Path, launch: Launch | None) -> Path:
    """Where a file goes whatever the program makes the current folder; links are kept."""
    return path_of_rank(Path(os.path.abspath(path)), launch)  # noqa: PTH100


def _writer(path: Path) -> RecordingWriter:
    from gradscope.recording.file.store import RecordingWriter

    return RecordingWriter(path)
