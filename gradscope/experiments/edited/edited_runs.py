"""Programs run with other source, each in a process of its own that has a copy of one torch."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gradscope.experiments.edited.edited_job import LEFT, EditedJob, Left
from gradscope.isolated.job_output import printed
from gradscope.isolated.jobs import Ending, run_isolated
from gradscope.recording import Outcome, Recording


@dataclass(frozen=True)
class EditedRun:
    """What came of one run."""

    left: Left
    """Empty where the process was killed before it could leave anything."""
    complete: bool
    """Whether it left something."""
    ending: Ending
    output: str

    @property
    def recording(self) -> Recording:
        """What was recorded."""
        return self.left.recording

    @property
    def outcome(self) -> Outcome:
        """How the program ended; one that was stopped after so many passes has ended well."""
        return Outcome("ok", 0) if self.left.was_stopped else self.left.outcome


def run_edited(
    jobs: Sequence[EditedJob],
    *,
    timeout: float | None = None,
    at_once: int | None = None,
    fork: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[EditedRun]:
    """Run every job and wait for all; an interrupt ends all that still run.

    Args:
        jobs: What to run.
        timeout: Seconds after which a run is ended; None: never.
        at_once: How many run at the same time; None: as many as there are processors.
        fork: Fork this process, which imports torch, rather than start new interpreters; None: where the system can.
            A process in which torch has been at work, or a program was run, is not to be forked.
        progress: Called with the number of runs that are done and of all, several times a second.

    Raises:
        RuntimeError: gradscope itself failed in one of the processes.
    """
    if fork is not False:
        import gradscope.experiments.edited.pass_watch
        import gradscope.recorder.session  # noqa: F401 - loaded once, for all forks

        if any(job.loads_late for job in jobs):
            import torch._dynamo  # noqa: F401 - loaded once, for all forks
    return run_isolated(jobs, _collect, timeout=timeout, at_once=at_once, fork=fork, progress=progress)


def _collect(folder: Path, ending: Ending) -> EditedRun:
    path = folder / LEFT
    if not path.exists():
        return EditedRun(Left(), False, ending, printed(folder))
    left: Left = pickle.loads(path.read_bytes())
    return EditedRun(left, True, ending, printed(folder))
