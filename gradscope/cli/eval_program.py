"""Doing what ``gradscope eval`` was asked to: run the program, then print the values."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from gradscope.cli.output.failures import tell
from gradscope.cli.output.streams import ResultStream
from gradscope.cli.requests import EvalRequest
from gradscope.cli.run_program import named_program, own_modules
from gradscope.errors import ExitCode
from gradscope.expressions.evaluation import Evaluation
from gradscope.expressions.plain_values import as_data, as_text
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording import Outcome
from gradscope.recording.program_end import program_end
from gradscope.report.json_values import to_text
from gradscope.report.output_files import explained_output
from gradscope.targets.program import Program


def eval_program(request: EvalRequest) -> NoReturn:
    """Run a program, print the values, and end the process.

    Raises:
        GradscopeError: The target or an expression is no good; nothing was run.
    """
    program = named_program(request.target, is_code=request.is_code, is_module=request.is_module)
    values = _Values(request, program)
    run = ProgramRun(
        program,
        probes=values.evaluation.probes,
        hidden=own_modules(request.modules_at_start, program.path0),
        ends_process=True,
        on_finish=values.finish,
    )
    outcome = run.run()
    if run.is_child or outcome.kind == "interrupted":
        run.leave()
    sys.exit(values.exit_code)


class _Values:
    """The values, on their way to standard output."""

    def __init__(self, request: EvalRequest, program: Program) -> None:
        self.evaluation = Evaluation(program, request.expressions)
        self.exit_code = ExitCode.OK
        self._as_json = request.as_json
        self._stream = ResultStream(to_stderr=True)

    def finish(self, run: ProgramRun) -> None:
        """Print every value, or nothing where the program or an expression failed."""
        outcome = run.recording.info.outcome
        ended = _bad_end(outcome)
        if ended:
            print(f"gradscope: the program {ended}; no value was evaluated", file=sys.stderr, flush=True)
        if ended or outcome.kind in ("exception", "interrupted"):
            self.exit_code = ExitCode.DIFFERENT
        else:
            self._print(run)
        if outcome.kind == "exit" and not outcome.error_type:
            os._exit(self.exit_code)  # the program called it: its status would be ours

    def _print(self, run: ProgramRun) -> None:
        try:
            lines = self.evaluation.values(run, _as_json if self._as_json else as_text)
            if self._stream.stream is not None:
                with explained_output():
                    self._stream.stream.write("".join(f"{line}\n" for line in lines))
                    self._stream.stream.flush()
        except BrokenPipeError:  # whoever read our output has had enough
            self._stream.forget()
        except Exception as error:
            self._stream.forget()
            self.exit_code = tell(error)


def _bad_end(outcome: Outcome) -> str:
    """How the program ended, where that was bad and Python does not say it."""
    if outcome.kind == "exit" and not outcome.exit_code:
        return ""
    return program_end(outcome.kind, outcome.exit_code, outcome.message)


def _as_json(value: object) -> str:
    return to_text(as_data(value))
