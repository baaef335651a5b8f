"""Running a program under a recorder: what it prints, raises and returns is what it would be under ``python``.

The recording is complete when the program is over by Python's own measure: its threads have ended and its ``atexit``
functions have run. It is also completed when the program leaves by ``os._exit``, SIGTERM or SIGHUP. A child that the
program forks records nothing and ends as it would without.
"""

from __future__ import annotations

import atexit
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from gradscope import collector
from gradscope.errors import ExitCode
from gradscope.frames.tracebacks import clean_exception
from gradscope.hosting.look_in_fork import look_in_fork
from gradscope.hosting.main_module import execute, forget_source, new_main, register_source, run_imports
from gradscope.hosting.probes import InsertedProbes, Probe
from gradscope.hosting.process import ProgramProcess, die_by_interrupt, flush_quietly
from gradscope.hosting.program_recording import ProgramRecording
from gradscope.hosting.progress_line import Progress, ProgressLine
from gradscope.hosting.running_snippets import SnippetRun, run_snippets
from gradscope.hosting.shared_terminal import shared_terminal
from gradscope.hosting.started_processes import StartedProcesses, forks_of_our_own
from gradscope.hosting.time_limit import TimeLimit, frames_of_threads
from gradscope.recording import Outcome, Recording
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.hosting.followed_children import FollowedChildren
    from gradscope.recorder.session import Recorder


class Companion(Protocol):
    """What is evaluated beside a program, and noted in its recording."""

    probes: list[Probe]
    """Where; an action mutes the recorder itself, with :meth:`ProgramRun.quietly`, only when it evaluates."""

    def attach(self, run: ProgramRun) -> None:
        """Tell which run this is about, before it begins."""

    def finish(self) -> None:
        """The program is over; rows can still be noted."""


class ProgramRun:
    """One run of a program.

    Args:
        program: What to run.
        args: Its own arguments.
        values: Record the values of small CPU tensors.
        max_ops: Keep at most so many single ops.
        every_op: Keep them all up to there, also where the program repeats itself.
        nan: Look for where a NaN or an infinity is born.
        fingerprints: Keep fingerprints, by which two runs are compared.
        records: Observe what torch does; else it is only run, at its own speed.
        companion: Evaluated beside the program: its ``# watch:`` comments and what ``--watch`` names.
        probes: Called at chosen statements, in their frames, muted: see :class:`Probe`.
        hidden: Modules that gradscope has imported for itself and the program must not find.
        ends_process: The process has no other purpose: when the program is over, wait for its threads and run its
            ``atexit`` functions, as the interpreter does.
        on_flush: Takes the recording after each batch of rows.
        on_finish: Called once, with this run, as soon as the recording is complete; also where the process is about
            to end by ``os._exit`` or a signal. Never in a child that the program has forked.
        on_look: Called with this run, its recording as complete as it can be so far, in a fork of the process, each
            time that the signal ``looks_at`` comes; the program goes on.
        timeout: Seconds after which the process is ended with what it has started; only with ``ends_process``.
        progress: Makes the line that tells on the terminal how far the program has come; None: there is none.
        children: What records the processes that the program starts; None: nothing.
        counts_children: Count them.
    """

    def __init__(
        self,
        program: Program,
        args: Sequence[str] = (),
        *,
        values: bool = False,
        max_ops: int | None = None,
        nan: bool = False,
        fingerprints: bool = False,
        every_op: bool = False,
        records: bool = True,
        companion: Companion | None = None,
        probes: Sequence[Probe] = (),
        hidden: Collection[str] = (),
        ends_process: bool = False,
        on_flush: Callable[[Recording], None] | None = None,
        on_finish: Callable[[ProgramRun], None] | None = None,
        on_look: Callable[[ProgramRun], None] | None = None,
        looks_at: int | None = None,
        timeout: float | None = None,
        progress: Callable[[Progress], str] | None = None,
        children: FollowedChildren | None = None,
        counts_children: bool = True,
    ) -> None:
        self.program = program
        self.module: ModuleType | None = None
        """The program's ``__main__``."""
        self.exit_code: Any = 0
        """What the interpreter would be ended with: a status, or a number too large for one."""
        self._observed = ProgramRecording(
            program,
            [program.argv0, *args],
            self._begun,
            records=records,
            values=values,
            max_ops=max_ops,
            on_flush=on_flush,
            nan=nan,
            fingerprints=fingerprints,
            every_op=every_op,
        )
        self._outcome = self._observed.outcome
        self._started = StartedProcesses(children)
        self._counts_children = counts_children
        if children is not None:
            children.observed = self._observed
        self._ends_process = ends_process
        self._timeout = timeout
        self._limit = None if timeout is None else TimeLimit(timeout, self._timed_out, ExitCode.TIMEOUT)
        self._line: ProgressLine | None = None
        if progress is not None and (terminal := shared_terminal()) is not None:
            self._line = ProgressLine(terminal, self._looked_at, progress)
        self._on_finish = on_finish
        self._on_look = on_look
        self._errors: list[str] = []
        """The types of the errors that snippets raised."""
        self._process = ProgramProcess(
            program,
            args,
            hidden=hidden,
            exiting=self._exited_at_once,
            signalled=self._ended_by_signal,
            looked=self._look,
            looks_at=looks_at,
            is_busy=self._is_busy,
        )
        self._companion = companion
        if companion is not None:
            companion.attach(self)
        own = [Probe(p.line, p.column, p.before, self._muted(p)) for p in probes]
        self._probes = InsertedProbes([*(companion.probes if companion is not None else ()), *own], program.filename)
        self.recording.info.children_followed = children is not None

    @property
    def recording(self) -> Recording:
        """What was observed; complete once :meth:`run` has returned."""
        return self._observed.recording

    @property
    def recorder(self) -> Recorder | None:
        """None until the program has imported torch."""
        return self._observed.recorder

    @property
    def is_child(self) -> bool:
        """Whether this is a child that the program has forked and that came to the program's end."""
        return self._process.is_child()

    def run(self) -> Outcome:
        """Run the program and complete the recording; what it raises is shown as Python shows it."""
        register_source(self.program)
        self._process.enter()
        self.module = new_main(self.program)
        raised: BaseException | None = None
        if self._limit is not None:
            self._limit.start()
        if self._line is not None:
            self._line.start()
        try:
            if self._counts_children:
                self._started.install()
            self._observed.install()
            self._probes.install()
            collector.give_to_program()
            self._execute(self.module)
        except BaseException as error:
            raised = error
        self._take_line_away()
        self._flush()
        self._outcome.kind, self._outcome.exit_code = "ok", 0
        if raised is not None:
            self._end_by(raised)  # not within ``except``: what the program's hooks raise has no context of ours
        if self.is_child:
            return self._outcome
        if self._ends_process:
            _end_threads_and_functions()
            flush_quietly(sys.stdout)  # before anything is shown: the program's output comes first
        collector.take_back()
        self._finish()
        if self._ends_process:
            self._probes.outlive_builtins(self.module.__dict__)
        return self._outcome

    def restore(self) -> None:
        """Make the process what it was before the run."""
        self._observed.remove()
        self._started.remove()
        self._probes.remove()
        self._process.restore()
        forget_source(self.program)

    def leave(self) -> NoReturn:
        """End the process as the program would have ended it."""
        # Held by us, the module would be cleared name by name when the interpreter ends, and a ``__del__`` of the
        # program's would find its globals gone.
        self.module = None
        collector.give_back()
        if self._outcome.kind == "interrupted":
            die_by_interrupt()
        sys.exit(self.exit_code)

    @contextmanager
    def quietly(self) -> Iterator[None]:
        """Nothing that the calling thread does inside is recorded, and no warning of its is shown."""
        quiet, recorder = self._process.quiet, self.recorder
        before, quiet.is_on = quiet.is_on, True
        try:
            if recorder is None:
                yield
            else:
                with recorder.mute():
                    yield
        finally:
            quiet.is_on = before

    def frames_at_end(self) -> list[FrameType]:
        """The user's frames from where the program raised to its module, innermost first; none where it did not.

        Only while the recording is being completed.
        """
        frames, trace = [], self._observed.raised
        while trace is not None:
            if self.program.is_user(trace.tb_frame.f_code.co_filename):
                frames.append(trace.tb_frame)
            trace = trace.tb_next
        return frames[::-1]

    def _begun(self) -> None:
        """The recorder has started, and with torch what starts processes has been imported."""
        if self._counts_children:
            self._started.follow_commands()

    def _muted(self, probe: Probe) -> Callable[[Any], None]:
        def action(frame: Any) -> None:
            with self.quietly():
                probe.action(frame)

        return action

    def _flush(self) -> None:
        """As Python does at the end of a script, before it shows what the script raised."""
        if self.program.kind.flushes_at_end:
            flush_quietly(sys.stderr)
            flush_quietly(sys.stdout)

    def _execute(self, module: ModuleType) -> None:
        run_imports(self.program, module.__dict__)
        if not self.program.kind.snippet:
            execute(self.program, module, self._probes)
            return
        run_snippets(self.program, module, self._probes, self._note_snippet)

    def _note_snippet(self, ran: SnippetRun) -> None:
        """Keep how a snippet ran; what it raised did not end the run, which ends well all the same."""
        if self.is_child:
            return
        if self.recorder is not None:
            self.recorder.observe_snippet(self.program.filename, ran.detail)
        if ran.error_type:
            self._errors.append(ran.error_type)
            kinds = ", ".join(dict.fromkeys(self._errors))
            count = f"{len(self._errors)} of {len(self.program.snippets)} {self.program.kind.snippet}s raised"
            self._outcome.error_type, self._outcome.message = ran.error_type, f"{count} {kinds}"

    def _end_by(self, error: BaseException) -> None:
        clean_exception(error)
        outcome = self._outcome
        self._observed.note_error(error)
        if isinstance(error, SystemExit):
            outcome.traceback = ""
            self._end_by_exit(error)
            return
        self.exit_code = 1
        outcome.kind, outcome.exit_code = "exception", 1
        if type(error) is KeyboardInterrupt:
            outcome.kind, outcome.exit_code = "interrupted", 128 + signal.SIGINT
        self._show(error)

    def _end_by_exit(self, error: SystemExit) -> None:
        """As ``sys.exit`` is documented: a number is the status, nothing is 0, anything else is shown and is 1."""
        code = error.code
        outcome = self._outcome
        outcome.kind = "exit"
        if code is not None and not isinstance(code, int):
            if sys.stderr is not None:
                sys.stderr.write(f"{_printed(code)}\n")
            code = 1
        self.exit_code = code or 0
        outcome.exit_code = self.exit_code & 0xFF

    def _show(self, error: BaseException) -> None:
        """Show what ended the program by way of ``sys.excepthook``, as the interpreter does."""
        sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        if sys.version_info >= (3, 12):
            sys.last_exc = error
        try:
            is_in_file = not (self.program.kind.snippet or self.program.is_edited)
            if not is_in_file and sys.excepthook is sys.__excepthook__:
                # Python's own would read the lines from the file, where they are not.
                traceback.print_exception(type(error), error, error.__traceback__)
            else:
                sys.excepthook(type(error), error, error.__traceback__)
        except SystemExit as exiting:
            self._end_by_exit(exiting)
        except BaseException as failure:
            clean_exception(failure)
            print("Error in sys.excepthook:", file=sys.stderr)
            sys.__excepthook__(type(failure), failure, failure.__traceback__)
            print("\nOriginal exception was:", file=sys.stderr)
            sys.__excepthook__(type(error), error, error.__traceback__)

    def _exited_at_once(self, code: int) -> None:
        self._outcome.kind, self._outcome.exit_code = "exit", code & 0xFF
        self._outcome.message = f"os._exit({code})"
        self._finish()

    def _looked_at(self) -> tuple[int, int] | None:
        """Ops so far and bytes that live, asked in a thread beside the program's."""
        recorder = self.recorder
        try:
            return None if recorder is None else (recorder.op_count, recorder.living_bytes)
        except RuntimeError:  # the program went on at that very moment
            return None

    def _take_line_away(self) -> None:
        if self._line is not None:
            self._line.stop()

    def _timed_out(self) -> None:
        """The program takes too long; called in a thread beside it."""
        outcome = self._outcome
        outcome.kind, outcome.exit_code = "timeout", int(ExitCode.TIMEOUT)
        outcome.message = f"{self._timeout:g} second{'s' * (self._timeout != 1)}"
        self._observed.stands = frames_of_threads()
        for stream in (sys.stdout, sys.stderr):  # the program's output comes first
            flush_quietly(stream)
        self._finish()

    def _is_busy(self) -> bool:
        return self.recorder is not None and self.recorder.is_busy

    def _ended_by_signal(self, number: int) -> None:
        self._outcome.kind, self._outcome.exit_code = "signal", 128 + number
        self._outcome.message = signal.Signals(number).name
        self._finish()

    def _look(self) -> None:
        """Show what was observed so far, without the program noticing."""
        if self._on_look is None or self._observed.is_complete or self.is_child:
            return
        with self.quietly(), forks_of_our_own():  # (quietly: Python warns of a fork of a process that has threads)
            look_in_fork(self._complete_in_fork)

    def _complete_in_fork(self) -> None:
        """Complete a fork's copy of the recording; the program goes on elsewhere and its files are not touched."""
        if self.recorder is not None:
            self.recorder.go_on_in_fork()
        self._on_finish = self._on_look
        self._outcome.message = "goes on: what follows is what it has done so far"
        self._finish()

    def _finish(self) -> None:
        """Complete the recording and hand it on, once."""
        self._take_line_away()
        if self._limit is not None:
            self._limit.stop()
        companion, module = self._companion, self.module
        before = bool if companion is None else companion.finish
        self.recording.info.children = self._started.count
        if not self._observed.complete(module.__dict__ if module else None, before):
            return
        self._started.remove()
        self._process.own_imports()
        if self._on_finish is not None:
            self._on_finish(self)


def _printed(code: object) -> str:
    """What ``sys.exit`` was given, as Python prints it: nothing where that raises."""
    try:
        return str(code)
    except BaseException:
        return ""


def _end_threads_and_functions() -> None:
    """What the interpreter does between a program's end and its own: wait for threads, run ``atexit`` functions."""
    shutdown: Any = threading._shutdown  # type: ignore[attr-defined]
    try:
        shutdown()
    except BaseException as error:
        clean_exception(error)
        print(f"Exception ignored in: {threading!r}", file=sys.stderr)
        traceback.print_exception(type(error), error, error.__traceback__)
    atexit._run_exitfuncs()
