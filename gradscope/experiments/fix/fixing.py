"""Finding edits that hold: the program is run as it is, and once with each edit, in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gradscope.analysis.edits.edit_catalogue import Keeps, Proposal, editable_codes, proposals
from gradscope.analysis.edits.edit_model import Edit, EditSources, SpanChange, applied, composed
from gradscope.analysis.report_model import Answer
from gradscope.analysis.selection.selected_answers import select_answers
from gradscope.errors import GradscopeError, UsageError
from gradscope.experiments.edited.edited_job import EditedJob
from gradscope.experiments.edited.edited_runs import EditedRun, run_edited
from gradscope.experiments.fix.fix_model import ChangedSpan, Fix, FixReport, Proof
from gradscope.experiments.fix.proving import ProvedRun, prove
from gradscope.experiments.fix.source_files import SourceFileOnDisk, unified, write_back
from gradscope.experiments.process_end import variant_end
from gradscope.recording import SourceFile
from gradscope.targets.edited import EditedSource
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.analysis.selection.answer_selection import AnswerSelection

TRIED = 6
"""Edits that are run for one answer until one holds."""
RUNS = 40
"""Runs with edits in all."""
SEED = 0
"""What each run's random numbers start from, where the program does not say: else no two could be compared."""

_GAPS = (
    "backward-no-grad",
    "backward-reached-nothing",
    "grad-none-unreached",
    "leaf-unreached",
    "layer-left-out",
    "term-without-gradient",
    "step-without-backward",
)
"""Diagnoses of gradients that are missing."""

_LEFT_BEHIND = ("graph-kept-after-pass", "graph-carried-along", "memory-kept-by-graph")
"""What an edit that lets gradients flow may make of a line that kept a number: it is edited, too."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class FixOptions:
    """How the program is run."""

    arguments: tuple[str, ...] = ()
    selection: AnswerSelection | None = None
    timeout: float | None = None
    jobs: int | None = None
    stop_after: int = 0
    max_ops: int | None = None


@dataclass(eq=False, repr=False)
class _Tried:
    """An edit that is to be run, or was."""

    edit: Edit
    keeps: Keeps
    answers: list[Answer]
    proof: Proof | None = None

    @property
    def follows(self) -> bool:
        """Whether it is an edit with what another edit made necessary."""
        return "; " in self.edit.title


@dataclass(eq=False, repr=False)
class Fixing:
    """The search for edits of one program."""

    program: Program
    options: FixOptions
    progress: Progress | None = None
    _runs: int = 0
    _fork: bool | None = None
    _files: dict[str, SourceFile] = field(default_factory=dict)
    _on_disk: dict[str, SourceFileOnDisk | None] = field(default_factory=dict)
    _remarks: list[str] = field(default_factory=list)

    def find(self) -> FixReport:
        """Run the program as it is, and with each edit that may mend what it shows.

        Raises:
            GradscopeError: The program itself could not be run to an end.
        """
        kind = self.program.kind
        if kind.snippet:
            raise UsageError(
                f"{self.program.name} is run {kind.snippet} by {kind.snippet}: edits are proved for whole programs"
            )
        self._read(self.program.filename)
        (base,) = self._run([{}])
        if not base.complete and isinstance(base.ending, int) and base.ending < 0:
            self._fork = False  # what a fork of torch's process cannot do, a new interpreter may
            (base,) = self._run([{}])
        self._check(base)
        before = ProvedRun(base)
        self._files = {file.name: file for file in base.recording.files if file.is_user}
        for file in self._files.values():
            self._read(file.path)
        given = select_answers(before.report.answers, base.recording, self.options.selection).given
        answers = [answer for answer in given if answer.severity in ("problem", "warning")]
        tried = self._try(before, answers, EditSources(base.recording))
        offered = _offered(tried)
        together = self._together(before, offered)
        if together is not None and not together.holds:
            self._remarks.append("the edits do not hold together: apply the first, then run fix again")
        return self._report(answers, tried, offered, together)

    def write(self, report: FixReport) -> list[Path]:
        """Apply the edits that are offered and hold together; else the first alone.

        Returns:
            The files that were written.

        Raises:
            GradscopeError: A file lies outside the target's folder, was changed meanwhile, or cannot be written.
        """
        root = Path(self.program.filename).parent
        texts: list[tuple[SourceFileOnDisk, str]] = []
        for name, changes in _by_file(self._applied_together(report)).items():
            path = self._files[name].path
            file = self._on_disk.get(path)
            text = file.edited(self._files[name].text, changes) if file is not None else None
            if file is None or text is None:
                raise GradscopeError(f"{name} is not written: it is no plain source file", "apply the diff: -f diff")
            texts.append((file, text))
        for file, text in texts:
            write_back(file, text, root)
        return [file.path for file, _ in texts]

    def _applied_together(self, report: FixReport) -> list[Edit]:
        fixes = report.offered if report.together is None or report.together.holds else report.offered[:1]
        return [Edit(fix.title, fix.file, self._changes(fix)) for fix in fixes]

    def _changes(self, fix: Fix) -> tuple[SpanChange, ...]:
        text = self._files[fix.file].text
        starts = [0]
        for line in text.split("\n"):
            starts.append(starts[-1] + len(line) + 1)
        return tuple(
            SpanChange(starts[one.line - 1] + one.column, starts[one.end_line - 1] + one.end_column, one.text)
            for one in fix.spans
        )

    def _read(self, path: str) -> None:
        if path not in self._on_disk:
            self._on_disk[path] = SourceFileOnDisk.read(Path(path))

    def _check(self, base: EditedRun) -> None:
        if not base.complete:
            ended = variant_end(base.outcome, base.ending, complete=False).message
            raise UsageError(f"{self.program.name}: {ended}", "--stop-after N ends each run after N backward passes")
        if base.outcome.kind == "interrupted":
            raise GradscopeError(f"{self.program.name} was interrupted")
        if base.left.read_input:
            self._remarks.append("the program reads its standard input, which was empty in each run")
        if base.left.processes:
            self._remarks.append("the program starts processes: what they do is in no proof")

    def _try(self, before: ProvedRun, answers: Sequence[Answer], sources: EditSources) -> list[_Tried]:
        """Run the edits, of each answer one after the other until one holds, of different answers at the same time."""
        waiting = {
            _key(one): list(proposals(one, sources))[:TRIED]
            for one in answers
            if one.code in editable_codes() and not _is_of_a_gap(one, answers)
        }
        by_key = {_key(answer): answer for answer in answers}
        tried: dict[tuple[object, ...], _Tried] = {}
        mended: set[tuple[str, str]] = set()
        while True:
            batch: list[_Tried] = []
            for key, several in waiting.items():
                while several and key not in mended:
                    known = self._known(several.pop(0), tried)
                    if known.proof is None:
                        batch += [known] * (known not in batch)
                        break
                    if known.proof.holds:
                        mended.add(key)
            batch = batch[: max(0, RUNS - self._runs)]
            if not batch:
                return list(tried.values())
            runs = self._run([self._replaced([one.edit]) for one in batch])
            for one, run in zip(batch, runs, strict=True):
                after = ProvedRun(run)
                one.proof = prove(one.answers, before, after, one.keeps)
                if one.proof.only_new and not one.follows:
                    for key in map(_key, one.answers):
                        waiting[key] = [*_followed(one, before, after), *waiting.get(key, [])]
                if one.proof.holds:
                    gone = {key for key in by_key if key[0] in one.proof.gone and self._is_gone(key, run)}
                    mended |= gone
                    one.answers += [by_key[key] for key in gone if by_key[key] not in one.answers]

    def _is_gone(self, key: tuple[str, str], run: EditedRun) -> bool:
        return key not in map(_key, ProvedRun(run).answers)

    def _known(self, proposal: Proposal, tried: dict[tuple[object, ...], _Tried]) -> _Tried:
        """The run of an edit, which several answers may have proposed."""
        edit = proposal.edit
        known = tried.setdefault((edit.file, edit.sorted_changes), _Tried(edit, proposal.keeps, []))
        if proposal.answer not in known.answers:
            known.answers.append(proposal.answer)
        return known

    def _together(self, before: ProvedRun, offered: Sequence[_Tried]) -> Proof | None:
        if len(offered) < 2:
            return None
        (run,) = self._run([self._replaced([one.edit for one in offered])])
        answers = [answer for one in offered for answer in one.answers]
        keeps = max((one.keeps for one in offered), key=("seen", "gradients", "loss", "remade", "flow", "").index)
        alone = [one.proof for one in offered if one.proof is not None]
        return prove(answers, before, ProvedRun(run), keeps, alone)

    def _replaced(self, edits: Iterable[Edit]) -> dict[str, EditedSource]:
        return {
            self._files[name].path: EditedSource(applied(self._files[name].text, changes))
            for name, changes in _by_file(edits).items()
        }

    def _run(self, replacements: Sequence[dict[str, EditedSource]]) -> list[EditedRun]:
        options = self.options
        jobs = [
            EditedJob(
                self.program,
                options.arguments,
                replaced,
                seed=SEED,
                stop_after=options.stop_after,
                max_ops=options.max_ops,
                threads=1,
            )
            for replaced in replacements
        ]
        self._runs += len(jobs)
        return run_edited(jobs, timeout=options.timeout, at_once=options.jobs, fork=self._fork, progress=self.progress)

    def _report(
        self, answers: Sequence[Answer], tried: Sequence[_Tried], offered: Sequence[_Tried], together: Proof | None
    ) -> FixReport:
        mended = {_key(answer) for one in offered for answer in one.answers}
        fixes = [self._fix(one, offered=True) for one in offered]
        fixes += [self._fix(one, offered=False) for one in tried if one not in offered and one.proof is not None]
        shown = offered if together is None or together.holds else offered[:1]
        return FixReport(
            target=self.program.name,
            answers=len(answers),
            unmended=tuple(answer.code for answer in answers if _key(answer) not in mended),
            fixes=tuple(fixes),
            together=together,
            diff=self._diff([one.edit for one in shown]),
            runs=self._runs,
            remarks=tuple(self._remarks),
        )

    def _fix(self, one: _Tried, *, offered: bool) -> Fix:
        assert one.proof is not None
        file = self._files[one.edit.file]
        return Fix(
            title=one.edit.title,
            answers=tuple(one.answers),
            file=one.edit.file,
            path=file.path,
            spans=tuple(_span(file.text, change) for change in one.edit.sorted_changes),
            diff=self._diff([one.edit]),
            offered=offered,
            proof=one.proof,
        )

    def _diff(self, edits: Sequence[Edit]) -> str:
        parts = []
        for name, changes in _by_file(edits).items():
            file = self._files[name]
            disk = self._on_disk.get(file.path)
            after = disk.edited(file.text, changes) if disk is not None else None
            if disk is not None and after is not None:
                parts.append(unified(_patch_name(file.path), disk.text, after))
            else:
                parts.append(unified(name, file.text, applied(file.text, changes)))
        return "".join(parts)


def _followed(one: _Tried, before: ProvedRun, after: ProvedRun) -> Iterable[Proposal]:
    """An edit that takes away its answer and gives new ones, with edits for these."""
    had = set(map(_key, before.answers))
    sources = EditSources(after.run.recording)
    new = [answer for answer in after.answers if _key(answer) not in had]
    may_follow = (*_LEFT_BEHIND, *(answer.code for answer in one.answers))
    if any(answer.code not in may_follow for answer in new):
        return
    for answer in new[:2]:
        for proposal in list(proposals(answer, sources))[:2]:
            both = composed(one.edit, proposal.edit)
            if both is not None:
                yield Proposal(one.answers[0], both, one.keeps)


def _is_of_a_gap(answer: Answer, answers: Sequence[Answer]) -> bool:
    """Whether what is saved in vain may only be so because a pass that was to use it does not reach it."""
    return answer.code == "saved-in-vain" and any(other.code in _GAPS for other in answers)


def _offered(tried: Iterable[_Tried]) -> list[_Tried]:
    """The edits that hold, without those that change what another does, and one for each answer."""
    chosen: list[_Tried] = []
    mended: set[tuple[str, str]] = set()
    for one in tried:
        if one.proof is None or not one.proof.holds or {_key(answer) for answer in one.answers} <= mended:
            continue
        if not any(_overlap(one.edit, other.edit) for other in chosen):
            chosen.append(one)
            mended |= {_key(answer) for answer in one.answers}
    return chosen


def _overlap(one: Edit, other: Edit) -> bool:
    return one.file == other.file and any(
        a.start <= b.end and b.start <= a.end for a in one.changes for b in other.changes
    )


def _by_file(edits: Iterable[Edit]) -> dict[str, list[SpanChange]]:
    found: dict[str, list[SpanChange]] = {}
    for edit in edits:
        found.setdefault(edit.file, []).extend(edit.changes)
    return found


def _key(answer: Answer) -> tuple[str, str]:
    return answer.code, answer.subject


def _span(text: str, change: SpanChange) -> ChangedSpan:
    first, last = (text.count("\n", 0, at) + 1 for at in (change.start, change.end))
    columns = [at - (text.rfind("\n", 0, at) + 1) for at in (change.start, change.end)]
    return ChangedSpan(first, columns[0], last, columns[1], change.text)


def _patch_name(path: str) -> str:
    """A file's name in a diff: from the current folder, with slashes."""
    relative = os.path.relpath(path)
    return Path(path).as_posix().lstrip("/") if relative.startswith("..") else Path(relative).as_posix()
