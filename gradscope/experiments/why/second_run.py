"""Running a program once more, in a process of its own, with every value looked at: where was a NaN born?"""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from gradscope.analysis.why.asked import LookedAt, Question
from gradscope.expressions.asking import Asking
from gradscope.hosting.program_run import ProgramRun
from gradscope.isolated.jobs import Ending, run_isolated
from gradscope.recording import Recording
from gradscope.recording.file.replaced_file import replaced_file
from gradscope.targets.program import Program

_RESULT = "result.pickle"
"""What the process leaves, for its parent alone; it is there whole or not at all."""


class SecondRun(NamedTuple):
    """What the run gave."""

    recording: Recording
    looked: LookedAt


@dataclass(frozen=True)
class SecondRunJob:
    """What to run."""

    program: Program
    arguments: tuple[str, ...]
    question: Question
    max_ops: int | None

    def perform(self, folder: Path) -> int:
        """Run it and leave what it gave."""
        asking = Asking(self.program, self.question)

        def keep(run: ProgramRun) -> None:
            with replaced_file(folder / _RESULT) as temporary:
                Path(temporary).write_bytes(pickle.dumps(SecondRun(run.recording, asking.found())))

        run = ProgramRun(
            self.program,
            self.arguments,
            max_ops=self.max_ops,
            nan=True,
            companion=asking,
            ends_process=True,
            on_finish=keep,
        )
        run.run()
        return run.exit_code if isinstance(run.exit_code, int) else 1


def run_again(
    program: Program, arguments: tuple[str, ...], question: Question, max_ops: int | None
) -> SecondRun | None:
    """What a second run gave; None where it left nothing. Its input is empty, and what it prints is not shown."""
    job = SecondRunJob(program, arguments, question, max_ops)
    (found,) = run_isolated([job], _collect, fork=False)
    return found


def _collect(folder: Path, _: Ending) -> SecondRun | None:
    result = folder / _RESULT
    if not result.exists():
        return None
    found: SecondRun = pickle.loads(result.read_bytes())
    return found
