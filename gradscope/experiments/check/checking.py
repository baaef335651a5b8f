"""Running targets to see whether their expectations hold, each in a process of its own."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradscope.analysis.check_results import CheckReport, FailingAnswer, TargetCheck, expectation_from
from gradscope.experiments.process_end import target_failure
from gradscope.expressions.expectations import Expectations
from gradscope.hosting.program_run import ProgramRun
from gradscope.isolated.job_output import printed
from gradscope.isolated.jobs import Ending, run_isolated
from gradscope.recording import Outcome
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.analysis.selection.answer_selection import AnswerSelection

_RESULT = "result.json"


def check_programs(
    programs: Sequence[Program],
    at_end: Sequence[str] = (),
    *,
    fail_on: Collection[str] = (),
    selection: AnswerSelection | None = None,
    timeout: float | None = None,
    jobs: int | None = None,
    fork: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Run programs and evaluate their expectations.

    Args:
        programs: What to run.
        at_end: Expressions to evaluate when a program is over, for each of them.
        fail_on: Codes and severities of answers for which a program fails; none: nothing is analysed.
        selection: Which answers count; None: all.
        timeout: Seconds after which a program is ended; None: never.
        jobs: How many run at the same time; None: as many as there are processors.
        fork: Fork this process rather than start new interpreters; None: where the system can.
        progress: Called with the number of programs that are done and of all.

    Raises:
        UsageError: An expression is no Python; nothing was run.
    """
    started = time.perf_counter()
    for program in programs:
        Expectations(program, at_end)
    threads = 1 if "torch" in sys.modules else None  # its threads may have been at work already: no fork has them
    found = run_isolated(
        [_Check(program, tuple(at_end), threads, frozenset(fail_on), selection) for program in programs],
        lambda folder, ending: (_read(folder), printed(folder), ending),
        timeout=timeout,
        at_once=jobs,
        fork=fork,
        progress=progress,
    )
    targets = tuple(_target(program, at_end, *one, timeout) for program, one in zip(programs, found, strict=True))
    return CheckReport(targets, time.perf_counter() - started)


@dataclass(frozen=True)
class _Check:
    """What the process of one program does."""

    program: Program
    at_end: tuple[str, ...]
    threads: int | None
    """Threads of torch's own; None: as torch decides."""
    fail_on: frozenset[str]
    selection: AnswerSelection | None

    def perform(self, folder: Path) -> int:
        """Run it, and leave what came of its expectations."""
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        expectations = Expectations(self.program, self.at_end)
        run = ProgramRun(
            self.program,
            probes=expectations.probes,
            ends_process=True,
            on_finish=lambda run: self._finish(run, expectations, folder),
        )
        expectations.attach(run, on_news=lambda: None if run.is_child else _leave(run, expectations, folder))
        run.run()
        return run.exit_code if isinstance(run.exit_code, int) else 1

    def _finish(self, run: ProgramRun, expectations: Expectations, folder: Path) -> None:
        with run.quietly():
            expectations.evaluate_at_end(vars(run.module) if run.module is not None else {})
        _leave(run, expectations, folder)
        if self.fail_on:
            _leave(run, expectations, folder, self._answers(run))

    def _answers(self, run: ProgramRun) -> list[FailingAnswer]:
        from gradscope.analysis.report_builder import build
        from gradscope.analysis.selection.codes import failing
        from gradscope.analysis.view import RunView

        found = failing(build(run.recording, RunView(selection=self.selection)).answers, self.fail_on)
        places = [answer.causes[0] if answer.causes else answer.place for answer in found]
        return [
            FailingAnswer(one.code, one.severity, one.text, where.file if where else "", where.line if where else 0)
            for one, where in zip(found, places, strict=True)
        ]


def _leave(run: ProgramRun, expectations: Expectations, folder: Path, answers: Collection[FailingAnswer] = ()) -> None:
    """Leave what is known so far: the process may be killed before it knows more."""
    files, outcome = run.recording.files, run.recording.info.outcome
    result = {
        "outcome": asdict(outcome),
        "failed_in": files[outcome.file].path if outcome.file >= 0 else "",
        "expectations": [asdict(expectation) for expectation in expectations.results()],
        "answers": [asdict(answer) for answer in answers],
    }
    new = folder / f"{_RESULT}.new"
    new.write_text(json.dumps(result))
    new.replace(folder / _RESULT)


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / _RESULT
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def _target(
    program: Program,
    at_end: Sequence[str],
    result: dict[str, Any] | None,
    output: str,
    ending: Ending,
    timeout: float | None,
) -> TargetCheck:
    file = _shorter(program.name)
    if result is None:
        expectations = Expectations(program, at_end).results()
        failure = target_failure(None, ending, timeout)
        return TargetCheck(program.target, file, expectations, failure, output=output)
    outcome = Outcome(**result["outcome"])
    return TargetCheck(
        program.target,
        file,
        tuple(expectation_from(data) for data in result["expectations"]),
        target_failure(outcome, ending, timeout),
        outcome.line if result["failed_in"] == program.filename else 0,
        outcome.traceback,
        output,
        tuple(FailingAnswer(**answer) for answer in result["answers"]),
    )


def _shorter(name: str) -> str:
    """A path relative to the current folder where that is shorter."""
    if not os.path.isabs(name):  # noqa: PTH117 - a Path would drop what follows ::
        return name
    with suppress(ValueError):  # another drive
        return min(name, os.path.relpath(name), key=len)
    return name
