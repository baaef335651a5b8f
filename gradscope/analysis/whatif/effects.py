"""What a variant saves, costs and breaks, in words. Where two unchanged runs differ, a difference says nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from gradscope.analysis.sizes import size
from gradscope.analysis.whatif.whatif_model import Likeness, Trial
from gradscope.analysis.wording import listed

UNCERTAIN = ("outcome", "passes", "with_gradient", "losses", "gradients", "values", "saved_bytes", "peak_bytes")
"""Facts in which two unchanged runs are compared."""

WORDS = {
    "outcome": "how it ends",
    "passes": "backward passes",
    "with_gradient": "with a gradient",
    "losses": "losses",
    "gradients": "gradients",
    "values": "leaves at the end",
    "saved_bytes": "saved for backward",
    "peak_bytes": "peak",
}
_BYTES = (("saved_bytes", "kept for backward"), ("peak_bytes", "of the peak of tensor memory"))
_FASTER = 0.03
"""A part of the time that is worth a word."""
_TIMED = 3
"""Runs of each from which on a word is said of times."""
_LONGEST = 160
"""Characters of a message; of a longer one the first sentence is shown."""


def ended_well(trial: Trial) -> bool:
    """Whether a run came to its end, or to where it was stopped."""
    return trial.outcome == "ok" or (trial.outcome == "exit" and not trial.exit_code)


def saves(trial: Trial, base: Trial, uncertain: Sequence[str]) -> tuple[str, ...]:
    """What it takes less of."""
    return tuple(_changes(trial, base, uncertain, -1))


def costs(trial: Trial, base: Trial, uncertain: Sequence[str]) -> tuple[str, ...]:
    """What it takes more of."""
    return tuple(_changes(trial, base, uncertain, 1))


def _changes(trial: Trial, base: Trial, uncertain: Sequence[str], sign: int) -> Iterable[str]:
    """Of two runs of the same length alone: of one that raised early, less is no saving."""
    if not (ended_well(trial) and ended_well(base) and trial.passes == base.passes):
        return
    for fact, words in _BYTES:
        if fact == "peak_bytes" and (trial.recomputes or base.recomputes):
            continue
        one, other = getattr(trial, fact), getattr(base, fact)
        if fact not in uncertain and one is not None and other is not None and (one - other) * sign > 0:
            yield f"{size(abs(one - other))} {'more ' if sign > 0 else ''}{words}{_part(one - other, other)}"
    mine, its = trial.wall_ns, base.wall_ns
    if mine is not None and its is not None and (mine - its) * sign > _FASTER * its and _are_apart(trial, base):
        yield _of_time(mine, its)


def _of_time(mine: int, its: int) -> str:
    if mine < its:
        return f"{(its - mine) / its:.0%} of the time"
    return f"{(mine - its) / its:.0%} more time" if mine < 2 * its else f"{_times(mine / its)} the time"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:.0f} times"


def _are_apart(trial: Trial, base: Trial) -> bool:
    """Whether every run of one took longer than every run of the other: else a machine that is busy tells as much."""
    mine, its = trial.wall_runs_ns, base.wall_runs_ns
    return min(len(mine), len(its)) >= _TIMED and (min(mine) > max(its) or max(mine) < min(its))


def _part(difference: int, whole: int) -> str:
    if not whole:
        return ""
    part = abs(difference) / whole
    return f" ({part:.0%})" if part >= 0.01 else " (less than 1%)"


def breaks(trial: Trial, base: Trial, uncertain: Sequence[str], still: Collection[str] = ()) -> tuple[str, ...]:
    """What is not as it was in the unchanged program, the worst first.

    Args:
        trial: The variant's run.
        base: The unchanged program's.
        uncertain: Facts that two runs of the unchanged program do not agree in.
        still: Names of the leaves that get a gradient in the variant's run.
    """
    if trial.outcome != base.outcome or trial.message != base.message:
        if mends(trial, base):
            return ()  # what the unchanged program would have computed is not known
        where = f" at line {trial.line}" if trial.line else ""
        return (f"it ends otherwise{where}: {first_sentence(trial.message) or trial.outcome}",)
    found = []
    if trial.passes != base.passes:
        found.append(f"{trial.passes} backward passes rather than {base.passes}")
    if trial.lost:
        what = "leaf gets" if len(trial.lost) == 1 else "leaves get"
        found.append(f"{len(trial.lost)} {what} no gradient any more: {listed(trial.lost, still)}")
    if trial.gained:
        what = "leaf gets" if len(trial.gained) == 1 else "leaves get"
        found.append(f"{len(trial.gained)} {what} a gradient that had none: {listed(trial.gained)}")
    others = "the other gradients" if trial.lost or trial.gained else "the gradients"
    for fact, words in (("gradients", others), ("losses", "the losses")):
        likeness: Likeness = getattr(trial, fact)
        if likeness.same is False and fact not in uncertain:
            found.append(f"{words} change{_from_pass(likeness)}: {off(likeness)}")
    if not found and trial.values.same is False and "values" not in uncertain:
        found.append(f"the leaves end up with other values: {off(trial.values)}")
    return tuple(found)


def mends(trial: Trial, base: Trial) -> tuple[str, ...]:
    """Where the unchanged program does not end well: what is over with that."""
    if ended_well(base) or not ended_well(trial):
        return ()
    return (f"it ends well, without the {base.message.partition(':')[0] or base.outcome}",)


def first_sentence(message: str) -> str:
    """A message, or of a long one its beginning."""
    return message if len(message) <= _LONGEST else message.partition(". ")[0]


def _from_pass(likeness: Likeness) -> str:
    return f" from backward pass {likeness.first_pass} on" if likeness.first_pass > 1 else ""


def off(likeness: Likeness) -> str:
    """How far off, in words."""
    if likeness.relative is None and likeness.largest is None:
        return "by how much is not known"
    if likeness.relative is None:
        return f"off by {likeness.largest:.1e}"
    of = f" ({likeness.name})" if likeness.name not in ("", "loss") else ""
    return f"off by {percent(likeness.relative)}{of}"


def percent(relative: float) -> str:
    """``3.1%``, ``2e-07``, ``13 times``: a part of the largest value."""
    if relative >= 10:
        return f"{relative:.2g} times" if relative < 100 else f"{relative:.1e} times"
    if relative >= 1:
        return f"{relative:.0%}"
    return f"{relative:.1%}" if relative >= 0.001 else f"{relative:.1g}"


def noise(second: Trial, base: Trial, uncertain: Sequence[str]) -> tuple[str, ...]:
    """How two runs of the unchanged program differ."""
    found = []
    for fact in uncertain:
        if fact in ("losses", "gradients", "values"):
            likeness: Likeness = getattr(second, fact)
            found.append(f"{WORDS[fact]} {off(likeness)}{_from_pass(likeness)}")
        elif fact.endswith("_bytes"):
            found.append(f"{WORDS[fact]} {size(getattr(base, fact) or 0)} and {size(getattr(second, fact) or 0)}")
        else:
            found.append(f"{WORDS[fact]}: {getattr(base, fact)} and {getattr(second, fact)}")
    return tuple(found)


def summary(trials: Sequence[Trial]) -> str:
    """All variants in a sentence."""
    saved = _by_text((trial.name, trial.saves[0]) for trial in trials if trial.saves)
    broken = _by_text((trial.name, _short(trial)) for trial in trials if trial.breaks)
    dear = _by_text((one.name, one.costs[0]) for one in trials if one.costs and not (one.saves or one.breaks))
    quiet = [one.name for one in trials if not (one.saves or one.breaks or one.costs or one.mends)]
    mended = _by_text((trial.name, trial.mends[0]) for trial in trials if trial.mends)
    parts = ["would mend: " + "; ".join(mended)] if mended else []
    parts.append("would save: " + ("; ".join(saved) if saved else "nothing"))
    parts.append("would break: " + ("; ".join(broken) if broken else "nothing seen"))
    if dear:
        parts.append("would only take more: " + "; ".join(dear))
    if quiet and len(quiet) < len(trials):
        parts.append(f"no difference: {', '.join(quiet)}")
    return ". ".join(part[0].upper() + part[1:] for part in parts) + "."


def _short(trial: Trial) -> str:
    """The worst that it breaks, in a few words."""
    if not ended_well(trial):
        return trial.message.partition(":")[0] or trial.outcome
    if trial.lost:
        return f"{len(trial.lost)} of {len(trial.lost) + trial.with_gradient - len(trial.gained)} gradients"
    if trial.gained:
        return f"{len(trial.gained)} more get a gradient"
    return trial.breaks[0].partition(":")[0]


def _by_text(pairs: Iterable[tuple[str, str]]) -> list[str]:
    """``a, b: text`` for names of which the same is said."""
    names: dict[str, list[str]] = {}
    for name, text in pairs:
        names.setdefault(text, []).append(name)
    return [f"{', '.join(having)} ({text})" for text, having in names.items()]
