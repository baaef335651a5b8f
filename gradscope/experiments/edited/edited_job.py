"""A run of a program with other source: what its process does. Nothing on the disk is changed."""

from __future__ import annotations

import ast
import os
import pickle
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter_ns

from gradscope.experiments.edited.edited_modules import replace_modules
from gradscope.experiments.edited.looked_statement import LookedStatement, StatementLook
from gradscope.hosting.process import flush_quietly
from gradscope.hosting.program_run import ProgramRun
from gradscope.recording import Outcome, Recording
from gradscope.recording.file.replaced_file import replaced_file
from gradscope.recording.kept_values import SeenLeaf, SeenPass
from gradscope.targets.edited import EditedSource, with_source
from gradscope.targets.program import Program

LEFT = "left.pickle"
"""What a run leaves, for its parent alone; it is there whole or not at all."""


@dataclass
class Left:
    """What a run has left."""

    recording: Recording = field(default_factory=Recording)
    """Empty where it was not recorded."""
    outcome: Outcome = field(default_factory=Outcome)
    """How the program ended; ``running`` where nothing was left."""
    passes: tuple[SeenPass, ...] = ()
    """Where it was recorded: its backward passes."""
    leaves: Mapping[int, SeenLeaf] = field(default_factory=dict)
    """Where it was recorded: the leaves that lived at its end, by row of the tensor."""
    pass_count: int = 0
    wall_ns: int = 0
    """From the program's first statement to its end, or to where it was stopped."""
    backward_ns: int = 0
    was_stopped: bool = False
    """It was ended after as many backward passes as it was to have."""
    read_input: bool = False
    looked: LookedStatement | None = None
    processes: int = 0
    """Processes of Python that it has started."""


def _run_text(source: EditedSource) -> str:
    return source.text if source.tree is None else ast.unparse(source.tree)


@dataclass(frozen=True)
class EditedJob:
    """What to run, and what to look at."""

    program: Program
    arguments: tuple[str, ...] = ()
    replacements: Mapping[str, EditedSource] = field(default_factory=dict)
    """Other source by file name: of the target's own file, and of modules of the user's that it imports."""
    input: str | None = None
    """A file that the program reads as its standard input; None: there is none."""
    seed: int | None = None
    """What random number generators start from; None: from where a new interpreter's would."""
    stop_after: int = 0
    """Backward passes after which the run is ended; 0: it comes to its own end."""
    recorded: bool = True
    values: str = ""
    """A folder for the values of gradients and leaves, for a recorded run; empty: only digests of them are kept."""
    look: StatementLook | None = None
    """A statement that is looked at when it runs."""
    max_ops: int | None = None
    threads: int | None = None
    """Threads of torch's own; None: as torch decides."""

    @property
    def loads_late(self) -> bool:
        """Whether its first call of an optimizer or a checkpoint loads torch's compiler, which takes seconds."""
        texts = (self.program.source, *map(_run_text, self.replacements.values()))
        return any(word in text for text in texts for word in ("optim", "checkpoint"))

    def perform(self, folder: Path) -> int:
        """Run it and leave what there is to know of it."""
        import torch

        from gradscope.experiments.edited.own_world import begin_random, give_input
        from gradscope.experiments.edited.pass_watch import PassWatch, wait
        from gradscope.experiments.edited.statement_look import LookingAtStatement
        from gradscope.experiments.edited.value_files import ValueWriter

        if self.loads_late:
            import torch._dynamo  # loaded before the clock starts: it is no part of what a line costs

        given = give_input(self.input)
        begin_random(self.seed)
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        looking = LookingAtStatement(self.look, lambda: run.quietly()) if self.look is not None else None
        probes = {looking.look.filename: looking.probes()} if looking is not None else {}
        replace_modules(self.replacements, probes)
        values = ValueWriter(Path(self.values) if self.values else None) if self.recorded else None
        left = Left()

        def stopping() -> None:
            left.was_stopped = True
            for stream in (sys.stdout, sys.stderr):
                flush_quietly(stream)

        def keep(run: ProgramRun) -> None:
            wait()
            left.wall_ns = perf_counter_ns() - begun
            left.outcome = run.recording.info.outcome
            left.looked = looking.found if looking is not None else None
            left.pass_count, left.backward_ns = watch.count, watch.backward_ns
            left.read_input, left.processes = given.was_read, run.recording.info.children
            if self.recorded:
                with run.quietly():
                    left.leaves = watch.last_leaves()
                left.passes, left.recording = tuple(watch.passes), run.recording
            if values is not None:
                values.close()
            with replaced_file(folder / LEFT) as new:
                new.write_bytes(pickle.dumps(left, pickle.HIGHEST_PROTOCOL))

        run = ProgramRun(
            self._program(),
            self.arguments,
            max_ops=self.max_ops,
            records=self.recorded,
            probes=[probe for filename, called in probes.items() if self._is_own(filename) for probe in called],
            ends_process=True,
            on_finish=keep,
        )
        watch = PassWatch(
            values, lambda: run.recorder.leaves() if run.recorder is not None else {}, self.stop_after, stopping
        )
        watch.install()
        begun = perf_counter_ns()
        run.run()
        return run.exit_code if isinstance(run.exit_code, int) else 1

    def _program(self) -> Program:
        for filename, source in self.replacements.items():
            if self._is_own(filename):
                return with_source(self.program, source)
        return self.program

    def _is_own(self, filename: str) -> bool:
        """Whether it is the target's own file."""
        own = self.program.filename
        return filename == own or os.path.realpath(filename) == os.path.realpath(own)
