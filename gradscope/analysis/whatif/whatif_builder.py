"""From the runs of a line's variants to what they say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gradscope.analysis.whatif.effects import UNCERTAIN, breaks, costs, mends, noise, saves, summary
from gradscope.analysis.whatif.likenesses import NOTHING, Differ, gradients_alike, losses_alike, values_alike
from gradscope.analysis.whatif.trial_facts import TrialFacts
from gradscope.analysis.whatif.whatif_model import Trial
from gradscope.recording import Recording
from gradscope.recording.kept_values import SeenLeaf, SeenPass

AS_IT_IS = "as it is"


class RunTimes(NamedTuple):
    """Of the runs without the recorder, in nanoseconds."""

    wall_ns: int
    wall_spread_ns: int | None
    """None of a single run."""
    wall_runs_ns: tuple[int, ...]
    backward_ns: int


class TrialRun(NamedTuple):
    """One run, as it was measured."""

    name: str
    code: str
    recording: Recording
    complete: bool
    passes: Sequence[SeenPass]
    leaves: Mapping[int, SeenLeaf]
    outcome: str
    exit_code: int | None
    message: str
    line: int
    times: RunTimes | None = None


class Tried(NamedTuple):
    """What all runs say together."""

    trials: tuple[Trial, ...]
    uncertain: tuple[str, ...]
    noise: tuple[str, ...]
    summary: str


_OF_WHOLE_RUNS = frozenset(("leaf-unreached", "never-stepped", "layer-left-out", "step-never-made"))
"""What may be found of a run only since it was stopped: that it goes without would be no improvement."""

DifferFrom = Callable[[int], Differ]
"""By the position of a run: how far its values are off from those of the first."""


def compare_trials(
    runs: Sequence[TrialRun], again: TrialRun, differ: DifferFrom, *, is_cut_short: bool = False
) -> Tried:
    """Compare the runs of a line's variants.

    Args:
        runs: The first is the unchanged program's.
        again: A second run of the unchanged program, which tells what of it can be repeated.
        differ: Compares values of a run with those of the first; -1 is the second run of the unchanged program.
        is_cut_short: Runs may have been ended before the program was at its end.
    """
    base, base_facts = runs[0], _facts(runs[0], None)
    plain = _trial(base, base_facts, base_facts, None)
    second = _trial(again, _facts(again, base_facts), base_facts, differ(-1))
    uncertain = tuple(fact for fact in UNCERTAIN if _differs(fact, plain, second))
    trials = [plain]
    for at, run in enumerate(runs[1:], 1):
        facts = _facts(run, base_facts)
        trial = _trial(run, facts, base_facts, differ(at), is_cut_short)
        trials.append(
            trial._replace(
                mends=mends(trial, plain),
                saves=saves(trial, plain, uncertain),
                costs=costs(trial, plain, uncertain),
                breaks=breaks(trial, plain, uncertain, facts.received if facts is not None else ()),
            )
        )
    return Tried(tuple(trials), uncertain, noise(second, plain, uncertain), summary(trials[1:]))


def _facts(run: TrialRun, base: TrialFacts | None) -> TrialFacts | None:
    return TrialFacts(run.recording, run.passes, run.leaves, base) if run.complete else None


def _trial(
    run: TrialRun,
    facts: TrialFacts | None,
    base: TrialFacts | None,
    differ: Differ | None,
    is_cut_short: bool = False,
) -> Trial:
    trial = Trial(
        name=run.name,
        code=run.code,
        outcome=run.outcome,
        exit_code=run.exit_code,
        message=run.message,
        line=run.line,
        passes=len(run.passes),
        parameters=0,
        with_gradient=0,
        lost=(),
        gained=(),
        losses=NOTHING,
        gradients=NOTHING,
        values=NOTHING,
        saved_bytes=None,
        peak_bytes=None,
        recomputes=False,
        wall_ns=run.times.wall_ns if run.times else None,
        wall_spread_ns=run.times.wall_spread_ns if run.times else None,
        wall_runs_ns=run.times.wall_runs_ns if run.times else (),
        backward_ns=run.times.backward_ns if run.times else None,
        new_answers=(),
        gone_answers=(),
        mends=(),
        saves=(),
        costs=(),
        breaks=(),
    )
    if facts is None:
        return trial
    measured = facts.run
    trial = trial._replace(
        parameters=len(facts.reached),
        with_gradient=len(facts.received),
        saved_bytes=facts.saved_bytes,
        peak_bytes=_number(measured["peak"]),
        recomputes=facts.recomputes,
    )
    if base is None or differ is None:
        return trial
    return trial._replace(
        lost=tuple(name for name in base.names.values() if name in base.received - facts.received),
        gained=tuple(name for name in facts.names.values() if name in facts.received - base.received),
        losses=losses_alike(facts, base),
        gradients=gradients_alike(facts, base, differ),
        values=values_alike(facts, base, differ),
        new_answers=tuple(sorted(facts.answers - base.answers)),
        gone_answers=_gone(facts, base, is_cut_short),
    )


def _gone(facts: TrialFacts, base: TrialFacts, is_cut_short: bool) -> tuple[str, ...]:
    """Answers that the variant's run does not give any more.

    Behind a checkpoint less is seen of what runs, while the same is computed: that nothing is said then is no cure.
    """
    if facts.recomputes and not base.recomputes:
        return ()
    return tuple(sorted(base.answers - facts.answers - (_OF_WHOLE_RUNS if is_cut_short else frozenset())))


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _differs(fact: str, one: Trial, other: Trial) -> bool:
    """Whether two runs of one program differ in a fact."""
    if fact in ("losses", "gradients", "values"):
        return getattr(other, fact).same is False
    return bool(getattr(one, fact) != getattr(other, fact))
