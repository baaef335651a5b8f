"""``whatif``: the unchanged program run twice, then each variant of one of its lines, then all timed in turns."""

from __future__ import annotations

import ast
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gradscope.analysis.whatif.effects import first_sentence
from gradscope.analysis.whatif.whatif_builder import AS_IT_IS, DifferFrom, RunTimes, TrialRun, Tried, compare_trials
from gradscope.analysis.whatif.whatif_model import WhatIf
from gradscope.errors import TargetError, UsageError
from gradscope.experiments.edited.edited_job import EditedJob
from gradscope.experiments.edited.edited_runs import EditedRun, run_edited
from gradscope.experiments.edited.looked_statement import LookedStatement, StatementLook
from gradscope.experiments.process_end import variant_end
from gradscope.experiments.whatif.asked_line import AskedLine
from gradscope.experiments.whatif.asked_statement import AskedStatement, find_asked, read_names, stored_names
from gradscope.experiments.whatif.edited_statement import Edited, edited
from gradscope.experiments.whatif.line_variants import read_variants, sensible
from gradscope.targets.edited import EditedSource
from gradscope.targets.program import Program
from gradscope.targets.source import decode, parse, read_file, syntax_error

MAX_OPS = 2_000_000
"""As of ``run``: some 320 MB."""


@dataclass(frozen=True)
class Trying:
    """How the variants of a line are run."""

    arguments: tuple[str, ...] = ()
    input: str | None = None
    """A file that each run reads as its standard input."""
    seed: int | None = None
    stop_after: int = 0
    timeout: float | None = None
    repeat: int = 5
    """Timed runs of each; 0: none."""
    jobs: int | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class _Line:
    """The statement that was asked about, in its file."""

    asked: AskedStatement
    tree: ast.Module
    text: str
    filename: str
    name: str
    """The file's, for people."""


def try_variants(program: Program, asked: AskedLine, texts: Sequence[str], trying: Trying) -> WhatIf:
    """Run a program with variants of one line, and compare what they did.

    Args:
        program: What is run.
        asked: The line, and what of its statement.
        texts: Variants and expressions; empty: those that make sense.
        trying: How they are run.

    Raises:
        GradscopeError: The line has no statement, a variant is none, or the program cannot be tried so.
    """
    line = _line(program, asked)
    names = read_variants(texts, line.tree)
    for name in names:
        edited(name, line.asked, line.tree, line.text, {})  # what cannot be is said before anything is run
    with tempfile.TemporaryDirectory(prefix="gradscope-") as folder:
        return _Trials(program, asked, line, names, trying, Path(folder)).run()


def _line(program: Program, asked: AskedLine) -> _Line:
    filename, name, text = program.filename, program.name, program.source
    if asked.file:
        filename = _file(program, asked.file)
        name = asked.file
        if filename != program.filename:
            text = decode(read_file(Path(filename)), asked.file)
    try:
        tree = parse(text, filename)
    except SyntaxError as error:
        if program.kind.snippet:
            raise TargetError(f"{name} cannot be tried: not all of it is Python", "name a file") from error
        raise syntax_error(error, name) from error
    return _Line(find_asked(tree, asked, name, text.split("\n")), tree, text, filename, name)


def _file(program: Program, written: str) -> str:
    """The file of the user's that was named."""
    for folder in ("", program.path0, program.user_root or ""):
        path = Path(folder, written)
        if path.is_file():
            if path.resolve() == Path(program.filename).resolve():
                return program.filename
            found = str(path.resolve())
            if not program.is_user(found) and not program.is_user(str(Path.cwd() / path)):
                raise UsageError(f"{written} is not the program's own", "a line of the target, or of a file beside it")
            return found
    raise UsageError(f"no such file: {written}", "FILE:LINE names a file beside the target")


class _Trials:
    """The runs of one call."""

    def __init__(
        self,
        program: Program,
        asked: AskedLine,
        line: _Line,
        names: tuple[str, ...],
        trying: Trying,
        folder: Path,
    ) -> None:
        self._program = program
        self._asked = asked
        self._line = line
        self._names = names
        self._trying = trying
        self._folder = folder
        statement = line.asked.statement
        wanted = dict.fromkeys([*read_names(statement), *stored_names(statement)])
        self._job = EditedJob(
            program=program,
            arguments=trying.arguments,
            input=trying.input,
            seed=trying.seed,
            stop_after=trying.stop_after,
            max_ops=MAX_OPS,
            threads=1 if "torch" in sys.modules else None,  # they may have been at work already: no fork has them
            look=StatementLook(line.filename, statement.lineno, statement.col_offset, tuple(wanted)),
        )

    def run(self) -> WhatIf:
        """Run all, and compare."""
        plain = {} if self._is_own() else {self._line.filename: self._unchanged()}
        base, again = self._run([replace(self._job, replacements=plain)] * 2, "base")
        looked = self._checked(base)
        variants = self._edits(looked.kinds)
        jobs = [replace(self._job, look=None, replacements={self._line.filename: one.source}) for one in variants]
        ran = [base, *self._run(jobs, "variant")]
        times = self._times([replace(self._job, look=None, replacements=plain), *jobs], ran)
        folders = [self._folder / "base-0", *(self._folder / f"variant-{at}" for at in range(len(jobs)))]
        runs = [
            self._trial_run(name, code, one, time)
            for (name, code), one, time in zip(
                [(AS_IT_IS, self._shown()), *((one.name, one.shown) for one in variants)], ran, times, strict=True
            )
        ]
        second = self._trial_run(AS_IT_IS, "", again, None)
        differ = _differing({-1: self._folder / "base-1", **dict(enumerate(folders))})
        stops = self._trying.stop_after > 0
        return self._result(looked, ran, compare_trials(runs, second, differ, is_cut_short=stops))

    def _run(self, jobs: Sequence[EditedJob], what: str) -> list[EditedRun]:
        kept = []
        for at, job in enumerate(jobs):
            folder = self._folder / f"{what}-{at}"
            folder.mkdir()
            kept.append(replace(job, values=str(folder)))
        trying = self._trying
        return run_edited(kept, timeout=trying.timeout, at_once=trying.jobs, progress=trying.progress)

    def _is_own(self) -> bool:
        return self._line.filename == self._program.filename

    def _unchanged(self) -> EditedSource:
        return EditedSource(self._line.text)

    def _checked(self, base: EditedRun) -> LookedStatement:
        """What the unchanged program's run says of the statement.

        Raises:
            GradscopeError: It cannot be tried.
        """
        line, left = self._line, base.left
        if left.read_input and self._trying.input is None:
            raise TargetError(
                f"{self._program.name} reads standard input, which its runs have none of",
                "give it a file: --input FILE (/dev/null: it is to have none)",
            )
        if left.looked is None:
            end = variant_end(left.outcome, base.ending, base.complete)
            last = base.output.rstrip().rpartition("\n")[2]
            raise TargetError(f"the unchanged program {end.message}" + (f"; it printed: {last}" if last else ""))
        if not left.looked.runs:
            ended = left.outcome
            why = f": the program raised {ended.error_type} before" if ended.kind == "exception" else ""
            raise TargetError(f"line {self._asked.line} of {line.name} was not run{why}", "no variant can change it")
        return left.looked

    def _edits(self, kinds: Mapping[str, str]) -> list[Edited]:
        line = self._line
        names = self._names or sensible(line.asked, kinds)
        if not names:
            raise UsageError(
                f"no variant makes sense for line {self._asked.line} of {line.name}: {self._shown()}",
                "nothing there requires grad; name a variant or an expression to try it all the same, or LINE:NAME",
            )
        made: dict[str, Edited] = {}
        for name in names:
            one = edited(name, line.asked, line.tree, line.text, kinds)
            made.setdefault(one.shown, one)
        return list(made.values())

    def _shown(self) -> str:
        return ast.unparse(self._line.asked.statement).split("\n")[0]

    def _times(self, jobs: Sequence[EditedJob], ran: Sequence[EditedRun]) -> list[RunTimes | None]:
        """Of the runs that ended well, in turns; the others have none."""
        good = [at for at, one in enumerate(ran) if one.complete and one.outcome.kind in ("ok", "exit")]
        times: list[RunTimes | None] = [None] * len(jobs)
        if not self._trying.repeat:
            return times
        trying = self._trying
        timed = [replace(jobs[at], recorded=False) for at in good]
        found = run_edited(timed * trying.repeat, timeout=trying.timeout, at_once=1, progress=trying.progress)
        for position, at in enumerate(good):
            times[at] = _middle([one for one in found[position :: len(good)] if one.complete])
        return times

    def _trial_run(self, name: str, code: str, run: EditedRun, times: RunTimes | None) -> TrialRun:
        outcome = run.outcome
        end = variant_end(outcome, run.ending, run.complete)
        line = outcome.line if end.kind == "exception" and self._is_in_line_file(run) else 0
        return TrialRun(
            name=name,
            code=code,
            recording=run.recording,
            complete=run.complete,
            passes=run.left.passes,
            leaves=run.left.leaves,
            outcome=end.kind,
            exit_code=end.exit_code,
            message=" ".join(end.message.split()) if end.kind != "ok" else "",
            line=max(line, 0),
            times=times,
        )

    def _is_in_line_file(self, run: EditedRun) -> bool:
        files, at = run.recording.files, run.outcome.file
        return 0 <= at < len(files) and os.path.realpath(files[at].path) == os.path.realpath(self._line.filename)

    def _result(self, looked: LookedStatement, ran: Sequence[EditedRun], tried: Tried) -> WhatIf:
        line, asked, trying = self._line, self._asked, self._trying
        statement = line.asked.statement
        lines = line.text.split("\n")[statement.lineno - 1 : statement.end_lineno]
        source = lines[0] if line.asked.is_compound else "\n".join(lines)
        info = ran[0].recording.info
        return WhatIf(
            target=self._program.target,
            file=line.name,
            file_is_module=not self._is_own(),
            line=statement.lineno,
            name=asked.name,
            source=source.strip(),
            executions=looked.runs,
            trials=tried.trials,
            uncertain=tried.uncertain,
            noise=tried.noise,
            seed=trying.seed,
            stop_after=trying.stop_after,
            repeat=trying.repeat,
            remarks=tuple(self._remarks(ran, tried)),
            summary=tried.summary,
            torch=info.torch,
            python=info.python,
        )

    def _remarks(self, ran: Sequence[EditedRun], tried: Tried) -> list[str]:
        found = []
        base = tried.trials[0]
        if base.message:
            found.append(f"the unchanged program does not end well: {first_sentence(base.message)}")
        if tried.noise and self._trying.seed is None:
            found.append("no seed was set for the runs: --seed 0 starts every random number generator from 0")
        if any(trial.recomputes for trial in tried.trials):
            found.append(
                "with a checkpoint, or saved-tensor hooks, what a backward pass computes anew is in no number of memory"
            )
        if any(one.left.processes for one in ran):
            found.append("the program starts processes: what they do is in no number here")
        if any(len(one.recording.left_out) for one in ran):
            found.append(f"only the first {MAX_OPS:,} ops of a run are in the numbers of memory")
        return found


def _middle(runs: Sequence[EditedRun]) -> RunTimes | None:
    if not runs:
        return None
    wall = [run.left.wall_ns for run in runs]
    spread = None
    if len(wall) > 1:
        first, _, third = statistics.quantiles(wall, n=4, method="inclusive")
        spread = round(third - first)
    backward = statistics.median(run.left.backward_ns for run in runs)
    return RunTimes(round(statistics.median(wall)), spread, tuple(wall), round(backward))


def _differing(folders: Mapping[int, Path]) -> DifferFrom:
    """Compares elements that runs have left with those of the first run."""
    from gradscope.experiments.edited.value_files import KeptFile, difference

    files = {at: KeptFile(folder) for at, folder in folders.items()}
    return lambda at: lambda one, other: difference(one, other, (files[at], files[0]))
