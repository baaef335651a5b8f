"""Variants run side by side, each in a process of its own."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradscope.recorder.session  # noqa: F401 - loaded once, for all forks
from gradscope.experiments.compare.variant_process import RECORDING, VariantJob, seed
from gradscope.isolated.job_output import printed
from gradscope.isolated.jobs import Ending, run_isolated
from gradscope.recording import Recording


@dataclass(frozen=True)
class Ran:
    """What came of one variant."""

    recording: Recording
    """Empty where the process was killed before it could leave one."""
    complete: bool
    """Whether it left one."""
    ending: Ending
    output: str


def run_variants(
    jobs: Sequence[VariantJob],
    *,
    timeout: float | None = None,
    at_once: int | None = None,
    fork: bool | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Ran]:
    """Run every job and wait for all.

    Args:
        jobs: What to run.
        timeout: Seconds after which a variant is ended; None: never.
        at_once: How many run at the same time; None: as many as there are processors.
        fork: Fork this process rather than start new interpreters; None: where the system can.
        progress: Called with the number of variants that are done and of all, several times a second.
    """
    seed()
    return run_isolated(jobs, _collect, timeout=timeout, at_once=at_once, fork=fork, progress=progress)


def _collect(folder: Path, ending: Ending) -> Ran:
    path = folder / RECORDING
    complete = path.exists()
    recording = pickle.loads(path.read_bytes()) if complete else Recording()
    return Ran(recording, complete, ending, printed(folder))
