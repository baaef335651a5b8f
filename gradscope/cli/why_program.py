"""Doing what ``gradscope why`` was asked to: run the program, answer, and end the process."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from gradscope.analysis.why.asked import LookedAt
from gradscope.analysis.why.why_builder import answer_question
from gradscope.analysis.why.why_model import WhyAnswer
from gradscope.cli.output.failures import note, tell
from gradscope.cli.output.streams import ResultStream
from gradscope.cli.requests import WhyRequest
from gradscope.cli.run_program import named_program, own_modules
from gradscope.errors import ExitCode
from gradscope.expressions.asking import Asking
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording import Outcome, Recording
from gradscope.recording.program_end import program_end
from gradscope.report.formats import format_named, format_of_file
from gradscope.report.output_files import check_output, explained_output, open_output
from gradscope.report.screen.pipe import console_on
from gradscope.report.why.why_screen import render_why

if TYPE_CHECKING:
    from gradscope.experiments.why.second_run import SecondRun


def why_program(request: WhyRequest) -> NoReturn:
    """Run a program, answer the question, and end the process.

    Raises:
        GradscopeError: The target, the question or an output file is no good; nothing was run.
    """
    program = named_program(
        request.target, is_code=request.is_code, is_module=request.is_module, packages=request.packages
    )
    for path in request.output.files:
        check_output(path, "why")
    answering = _Answering(request, Asking(program, request.question))
    run = ProgramRun(
        program,
        request.arguments,
        max_ops=request.max_ops,
        nan=request.question.wants_values,
        companion=answering.asking,
        hidden=own_modules(request.modules_at_start, program.path0),
        ends_process=True,
        on_finish=answering.finish,
    )
    outcome = run.run()
    if run.is_child or outcome.kind == "interrupted":
        run.leave()
    sys.exit(answering.exit_code)


class _Answering:
    """The answer, on its way to standard output and to files."""

    def __init__(self, request: WhyRequest, asking: Asking) -> None:
        self.asking = asking
        self.exit_code = ExitCode.OK
        self._request = request
        self._stream = ResultStream(to_stderr=True)
        self._folder = Path.cwd()

    def finish(self, run: ProgramRun) -> None:
        """Answer, as soon as the recording is complete."""
        outcome = run.recording.info.outcome
        if outcome.kind == "interrupted":
            return
        ended = program_end(outcome.kind, outcome.exit_code, outcome.message)
        if ended and outcome.exit_code:
            note(f"the program {ended}")
        try:
            answer = self._answer(run)
            self.exit_code = ExitCode.OK if answer.found else ExitCode.DIFFERENT
            self._deliver(answer)
        except BrokenPipeError:  # whoever read our output has had enough
            self._stream.forget()
        except Exception as error:
            self._stream.forget()
            self.exit_code = tell(error)
        if outcome.kind == "exit" and not outcome.error_type:
            sys.stderr.flush()
            os._exit(self.exit_code)  # the program called it: its status would be ours

    def _answer(self, run: ProgramRun) -> WhyAnswer:
        first = self._answer_from(run.recording, self.asking.found(), run.program.filename, 1)
        request = self._request
        if not first.lacks_birth or request.question.wants_values:
            return first
        if not request.may_run_again:
            return first._replace(remarks=(*first.remarks, "a second run would look at every value (--rerun)"))
        note("the program is run again, looking at every value (--no-rerun: once only)")
        from gradscope.experiments.why.second_run import run_again

        os.chdir(self._folder)
        try:
            second = run_again(run.program, request.arguments, request.question, request.max_ops)
        except KeyboardInterrupt:  # what is known is said: the first run was not interrupted
            return first._replace(remarks=(*first.remarks, "a second run, which looks at every value, was interrupted"))
        unlike = _ended_otherwise(run.recording.info.outcome, second)
        if second is None or unlike:
            return first._replace(remarks=(*first.remarks, f"the program was run again, with no input, and {unlike}"))
        again = self._answer_from(second.recording, second.looked, run.program.filename, 2)
        if again.lacks_birth:
            return first._replace(remarks=(*first.remarks, "a second run, which looked at every value, shows no more"))
        return again

    def _answer_from(self, recording: Recording, looked: LookedAt, filename: str, runs: int) -> WhyAnswer:
        return answer_question(self._request.question, looked, recording, filename, runs)

    def _deliver(self, answer: WhyAnswer) -> None:
        output = self._request.output
        stream = self._stream.stream
        if stream is not None:
            with explained_output():
                self._show(answer, stream)
                stream.flush()
        for path in output.files:
            wanted = format_of_file(path, "why")
            if wanted is not None:
                with open_output(path) as file:
                    file.write(wanted.writer("why")(answer))

    def _show(self, answer: WhyAnswer, stream: TextIOWrapper) -> None:
        output = self._request.output
        if output.format == "table":
            render_why(answer, console_on(stream, output.width, output.color))
            return
        stream.reconfigure(encoding="utf-8", newline="")
        stream.write(format_named(output.format, "why").writer("why")(answer))


def _ended_otherwise(outcome: Outcome, second: SecondRun | None) -> str:
    """How a second run ended, where the first did not end so: what it found is then about something else."""
    if second is None:
        return "left no recording"
    again = second.recording.info.outcome
    if (again.kind, again.exit_code, again.error_type) == (outcome.kind, outcome.exit_code, outcome.error_type):
        return ""
    ended = program_end(again.kind, again.exit_code, again.message)
    return f"raised {again.error_type}" if again.kind == "exception" else f"then it {ended or 'came to its end'}"
