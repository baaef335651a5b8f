"""Whether an edit holds: the run with it is compared with the run as it is. Nothing is run here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from gradscope.analysis.edits.edit_catalogue import Keeps
from gradscope.analysis.report_builder import build, gather
from gradscope.analysis.report_model import Answer, Report
from gradscope.experiments.edited.edited_runs import EditedRun
from gradscope.experiments.fix.fix_model import GradientsChanged, Measure, Proof, Renamed
from gradscope.experiments.process_end import variant_end
from gradscope.recording.kept_values import KeptValue

_SAME_LOSS = 1e-4
"""Relative difference of two losses up to which the order of additions explains it."""
_SAME_GRADIENT = 1e-4
_KEEPS_GRADIENTS = "it changes the gradients of the first backward pass"
_TOLD = ("problem", "warning")


@dataclass(eq=False, repr=False)
class ProvedRun:
    """A run of the program, as it is or with an edit, and what gradscope says of it."""

    run: EditedRun

    @cached_property
    def report(self) -> Report:
        """All that was found; computed when it is first asked for."""
        return build(self.run.recording)

    @property
    def answers(self) -> tuple[Answer, ...]:
        """Problems and warnings, those that a comment ignores included."""
        held_back = tuple(one.answer for one in self.report.suppressed)
        return tuple(answer for answer in (*self.report.answers, *held_back) if answer.severity in _TOLD)

    @cached_property
    def ended(self) -> str:
        """How it ended, where that was not well."""
        end = variant_end(self.run.outcome, self.run.ending, self.run.complete)
        if end.kind == "ok" or (end.kind == "exit" and not end.exit_code):
            return ""
        return end.message.split("\n")[0] or end.kind

    @property
    def losses(self) -> list[float]:
        """What its backward passes started from, where that was one element."""
        return [loss for one in self.run.left.passes for loss in one.losses[:1]]

    @cached_property
    def gradients(self) -> Mapping[str, list[KeptValue]]:
        """Gradients after its first pass by the leaves' names."""
        passes = self.run.left.passes
        names = gather(self.run.recording).names
        found: dict[str, list[KeptValue]] = {}
        for row, value in sorted(passes[0].gradients.items()) if passes else ():
            found.setdefault(names.of(row), []).append(value)
        return found


def prove(
    answers: Iterable[Answer], before: ProvedRun, after: ProvedRun, keeps: Keeps, alone: Sequence[Proof] = ()
) -> Proof:
    """What the run with an edit shows.

    Args:
        answers: What the edit is for.
        before: The run of the program as it is.
        after: The run with the edit.
        keeps: What the edit must not change.
        alone: Where it is several edits at once, the proofs of each: the names that they give and the leaves that they
            take away are theirs, and nothing against all together.
    """
    answers = list(answers)
    wanted = {_key(answer) for answer in answers}
    made_leaves = {answer.tensor for answer in answers if answer.code == "backward-reached-nothing"}
    had, has = (Counter(map(_key, run.answers)) for run in (before, after))
    others = [one for one in after.answers if _key(one) not in had]
    found = [one for one in others if not _is_left_of(one, before.answers)]
    left = {one.code for one in others if one not in found}
    gone = tuple(dict.fromkeys(code for code, subject in had if (code, subject) not in has and code not in left))
    new = tuple(answer.text for answer in found)
    counted = [answer.text for answer in found if answer.severity == "problem" or not _goes_on(before, after)]
    gradients = _gradients(before, after, made_leaves, [one.gradients for one in alone])
    losses = before.losses, after.losses
    first = Measure(*(one[0] if one else None for one in losses))
    reasons = [
        *(f"the answer is still given: [{code}]" for code, subject in sorted(wanted & has.keys())),
        *(f"there is a new one: {text}" for text in counted[:2]),
        *_end_reasons(before, after),
        *_kept_reasons(keeps, first, gradients),
        *_unknown_reasons(keeps, before),
    ]
    if after.report.faults and not before.report.faults:
        reasons.append("gradscope could not analyse the run")
    memory = before.report.memory, after.report.memory
    return Proof(
        holds=not reasons,
        reasons=tuple(reasons),
        gone=gone,
        only_new=bool(counted) and len(reasons) == len(counted[:2]),
        new=new,
        ended=after.ended,
        ended_before=before.ended,
        first_loss=first,
        last_loss=Measure(*(one[-1] if one else None for one in losses)),
        passes=Measure(before.run.left.pass_count, after.run.left.pass_count),
        gradients=gradients,
        saved_bytes=Measure(*(one.saved_bytes for one in memory)),
        peak_bytes=Measure(*(one.peak_bytes for one in memory)),
        wall_ns=Measure(before.run.left.wall_ns, after.run.left.wall_ns),
    )


def _is_left_of(answer: Answer, before: Iterable[Answer]) -> bool:
    """Whether it is what is left of one that was about more: ``net.0.s and net.1.s``, of which one is mended."""
    return bool(answer.subject) and any(one.code == answer.code and answer.subject in one.text for one in before)


def _goes_on(before: ProvedRun, after: ProvedRun) -> bool:
    """Whether an error that ended the run is gone: what comes behind it could not be seen before, nor warned of."""
    return bool(before.ended) and not after.ended and after.run.left.pass_count > before.run.left.pass_count


def _key(answer: Answer) -> tuple[str, str]:
    return answer.code, answer.subject


def _end_reasons(before: ProvedRun, after: ProvedRun) -> Iterable[str]:
    if after.ended and after.ended != before.ended:
        yield (
            f"the program {after.ended}" if after.ended.startswith("ended") else f"the program ends with {after.ended}"
        )
    elif after.ended and not after.run.complete:
        yield f"the program does not end: {after.ended}"
    elif after.run.left.pass_count < before.run.left.pass_count:
        yield f"it has {after.run.left.pass_count} backward passes, not {before.run.left.pass_count}"


def _kept_reasons(keeps: Keeps, first: Measure, gradients: GradientsChanged) -> Iterable[str]:
    if not keeps:
        return
    if keeps != "flow" and not _is_near(first.before, first.after):
        yield "it changes the loss of the first backward pass"
    if gradients.lost and keeps != "remade":
        yield f"{gradients.lost[0]} gets no gradient any more"
    if keeps in ("seen", "gradients") and (gradients.other or gradients.gained):
        furthest = gradients.furthest
        if furthest is None or furthest > _SAME_GRADIENT or gradients.gained:
            yield _KEEPS_GRADIENTS


def _unknown_reasons(keeps: Keeps, before: ProvedRun) -> Iterable[str]:
    """Where no pass came through, nothing tells what an edit must keep."""
    has_none = not before.run.left.pass_count or not before.gradients
    if keeps in ("seen", "gradients") and before.ended and has_none:
        yield "the program ends before a backward pass has shown which gradients are to be kept"
    elif keeps == "seen" and not before.gradients:
        yield "no backward pass shows which gradients are to be kept"


def _is_near(before: float | None, after: float | None) -> bool:
    if before is None or after is None or not math.isfinite(before):
        return True
    return math.isclose(before, after, rel_tol=_SAME_LOSS, abs_tol=1e-7)


def _gradients(
    before: ProvedRun, after: ProvedRun, made_leaves: Collection[str], alone: Iterable[GradientsChanged]
) -> GradientsChanged:
    """By name; a leaf of another name in the second run is the one that has the same gradient to the bit.

    Where another edit changes the gradients, too, which leaf has which name is known from the runs with one edit each.
    """
    had, has = dict(before.gradients), dict(after.gradients)
    taken_away, known_names = set(made_leaves), dict[str, str]()
    for changed in alone:
        taken_away.update(changed.lost)
        known_names.update(changed.renamed)
    renamed = list(_renamed(had, has, known_names))
    for name, now in renamed:
        had[now] = had.pop(name)
    same, other, furthest, known = 0, list[str](), 0.0, True
    for name in had.keys() & has.keys():
        if _digests(had[name]) == _digests(has[name]):
            same += len(had[name])
            continue
        other.append(name)
        for one, its in zip(had[name], has[name], strict=False):
            off = abs(one.norm - its.norm) / max(abs(one.norm), 1e-30)
            known &= one.shape == its.shape and math.isfinite(off)
            furthest = max(furthest, off) if math.isfinite(off) else furthest
    return GradientsChanged(
        same=same,
        other=tuple(sorted(other)),
        gained=tuple(sorted(has.keys() - had.keys())),
        lost=tuple(name for name in sorted(had.keys() - has.keys() - taken_away) if not name.startswith("<")),
        furthest=furthest if other and known else None,
        renamed=tuple(renamed),
    )


def _renamed(
    had: Mapping[str, list[KeptValue]], has: Mapping[str, list[KeptValue]], known: Mapping[str, str]
) -> Iterable[Renamed]:
    free = {name: its for name, its in has.items() if name not in had}
    gone = sorted(had.keys() - has.keys())
    for name in gone:
        if known.get(name) in free:
            del free[known[name]]
            yield Renamed(name, known[name])
    by_digest: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(free):
        by_digest.setdefault(_digests(free[name]), []).append(name)
    for name in gone:
        alike = by_digest.get(_digests(had[name]))
        if alike and known.get(name) not in has:
            yield Renamed(name, alike.pop(0))


def _digests(values: Iterable[KeptValue]) -> tuple[str, ...]:
    return tuple(value.digest for value in values)
