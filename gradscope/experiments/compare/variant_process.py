"""One variant: what its process does."""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gradscope.experiments.compare.variant_gradients import note_gradients
from gradscope.expressions.watched_expression import WatchedExpression
from gradscope.expressions.watches import Watches
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording.file.replaced_file import replaced_file
from gradscope.targets.program import Program

SEED = 0
"""What every variant's random number generators start from."""

RECORDING = "recording.pickle"
"""What a variant leaves, for its parent alone; it is there whole or not at all."""


@dataclass(frozen=True)
class VariantJob:
    """What to run."""

    program: Program
    watches: tuple[str, ...] = ()
    """Expressions to evaluate when the program is over, in its module."""
    threads: int | None = None
    """Threads of torch's own; None: as torch decides."""

    def perform(self, folder: Path) -> int:
        """Run the variant and leave its recording."""
        import torch

        if _seeded_in != os.getppid():  # a fork goes on from its parent's generators
            seed()
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        run = ProgramRun(
            self.program,
            values=True,
            companion=Watches(self.program),
            ends_process=True,
            on_finish=lambda run: _keep(run, self.watches, folder),
        )
        run.run()
        return run.exit_code if isinstance(run.exit_code, int) else 1


_seeded_in = -1
"""The process in which the generators were seeded last."""


def seed() -> None:
    """Start every random number generator from the same number."""
    global _seeded_in
    from gradscope.experiments.edited.own_world import begin_random

    begin_random(SEED)
    _seeded_in = os.getpid()


def _keep(run: ProgramRun, watches: Sequence[str], folder: Path) -> None:
    """Evaluate what is watched at the end, and write the recording."""
    names = vars(run.module) if run.module is not None else {}
    if run.recorder is not None:
        with run.quietly():
            note_gradients(run.recorder, names)
            for expression in watches:
                text, value, failed = WatchedExpression(expression).value(names)
                run.recorder.observe_watch(expression, run.program.filename, 0, text, value, failed)
        run.recorder.flush()
    with replaced_file(folder / RECORDING) as new:
        new.write_bytes(pickle.dumps(run.recording, pickle.HIGHEST_PROTOCOL))
