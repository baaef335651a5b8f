"""Why processes of a job wait for each other or train different models: what only their recordings together tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gradscope.analysis.comparison.collective_orders import CollectiveParting, CollectiveValue
from gradscope.analysis.facts.rank_facts import AVERAGING, RankFacts, ReplicaLook
from gradscope.analysis.report_model import Place, Severity
from gradscope.analysis.wording import listed

_APART = 1e-4
"""The part by which norms of parameters must differ to be said to."""
_LONG = 5
"""Seconds that a rank must have waited for one that was cut off, for more than that one being behind to be said."""
_SAME = 1e-6
"""The part by which norms of gradients that were averaged differ at most."""


class RankCause(NamedTuple):
    """One cause."""

    kind: str
    """``layer-on-some-ranks``, ``called-by-some-ranks``, ``evaluated-on-some-ranks``, ``replicas-differ``,
    ``gradient-not-averaged``."""
    severity: Severity
    ranks: tuple[int, ...]
    """Those that do otherwise than the rest, as far as that can be told."""
    place: Place | None
    """The line to change first."""
    text: str
    names: tuple[str, ...]
    """The parameters that it is about."""


class LineRuns(NamedTuple):
    """A line that not all ranks ran as often."""

    place: Place
    runs: Mapping[int, str]
    """By rank: ``ran 3 times``; none for a rank that never ran it."""


class GradientGap(NamedTuple):
    """A parameter to which a pass gave a gradient on some ranks only."""

    place: Place
    name: str
    given: tuple[int, ...]
    left_out: tuple[int, ...]


class Ranks(NamedTuple):
    """What is known of all."""

    facts: Mapping[int, RankFacts]
    lines: Sequence[LineRuns]
    gaps: Sequence[GradientGap]
    partings: Sequence[CollectiveParting]
    all_ended_well: bool
    stood: Mapping[int, str]
    """By rank, how it ended: ``ended well``, ``stood at line 9``."""
    cut_off: frozenset[int]
    """Ranks that were ended while they ran: they may only be behind."""
    waited: Mapping[int, float]
    """By rank, for how long it waited in a collective when it was ended, in seconds; 0: not known."""
    has_own_error: bool
    """Whether one raised what has nothing to do with the others: they then wait for it, and that is the cause."""


def rank_causes(ranks: Ranks) -> Iterator[RankCause]:
    """All that are known, the most harmful first."""
    gaps = list(_layers(ranks))
    yield from gaps
    if not gaps and not ranks.all_ended_well and not ranks.has_own_error:
        yield from list(_partings(ranks)) or list(_sharded(ranks)) or _waiting(ranks)
    yield from _evaluated(ranks)
    yield from _replicas(ranks)


def _layers(ranks: Ranks) -> Iterator[RankCause]:
    """Parameters in DistributedDataParallel that some ranks leave out of a pass."""
    by_gap: dict[tuple[Place, tuple[int, ...], tuple[int, ...]], list[str]] = {}
    for gap in ranks.gaps:
        if all(gap.name in ranks.facts[rank].wrapped for rank in (*gap.given, *gap.left_out)):
            by_gap.setdefault((gap.place, gap.given, gap.left_out), []).append(gap.name)
    for (place, given, left_out), names in by_gap.items():
        wrapped_at = ranks.facts[given[0]].wrapped_at
        wrapper = f"DistributedDataParallel{f' (line {wrapped_at})' if wrapped_at else ''}"
        those = [line for line in ranks.lines if set(line.runs) == set(given) and line.place.line != place.line]
        said = ""
        if those:
            where = those[0].place
            said = f" Line {where.line} ran on {ranks_text(given)} only{_under(ranks, given[0], where)}."
        yield RankCause(
            "layer-on-some-ranks",
            "problem",
            left_out,
            those[0].place if those else place,
            f"Line {place.line}: backward gave {listed(names)} a gradient on {ranks_text(given)} and none on "
            f"{ranks_text(left_out)}, and {wrapper} lets every rank wait for all of its parameters.{said} "
            "Let all ranks use the same layers, or wrap with find_unused_parameters=True.",
            tuple(names),
        )


def _sharded(ranks: Ranks) -> Iterator[RankCause]:
    """The first layer with parameters spread over the ranks that not all ranks ran as often."""
    for line in ranks.lines:
        place = line.place
        if not any((place.file, place.line) in facts.sharded_layers for facts in ranks.facts.values()):
            continue
        some, others = tuple(line.runs), tuple(rank for rank in ranks.facts if rank not in line.runs)
        most = max(_runs(line, rank) for rank in some)
        fewer, under = [rank for rank in ranks.facts if _runs(line, rank) < most], _under(ranks, some[0], place)
        if not (others and under) and not all(_went_on(ranks, rank, some[0]) for rank in fewer):
            continue  # (it may have come to its end on the way there)
        said = f"ran on {ranks_text(some)} only{under}" if others else f"ran {_by_rank(line)}"
        yield RankCause(
            "layer-on-some-ranks",
            "problem",
            others or some,
            place,
            f"Line {place.line} {said}: with fully_shard a layer that runs gathers its parameters from all ranks, and "
            "waits for those that do not run it. Let all ranks run the same layers as often.",
            (),
        )
        return


def _runs(line: LineRuns, rank: int) -> int:
    text = line.runs.get(rank, "")
    return int(text.split()[1].replace(",", "")) if text else 0


def _went_on(ranks: Ranks, rank: int, other: int) -> bool:
    """Whether a rank ran a line that another did not run as often."""
    return any(_runs(line, rank) > _runs(line, other) for line in ranks.lines)


def _waiting(ranks: Ranks) -> Iterator[RankCause]:
    """Ranks that wait for another one, where all called the same collectives: in ``send`` or ``recv``."""
    for rank, facts in ranks.facts.items():
        for call in facts.waits if ranks.waited.get(rank, 0) >= _LONG else ():
            others = [f"rank {other} {stood}" for other, stood in ranks.stood.items() if other != rank][:4]
            under = _under(ranks, rank, call.place)
            yield RankCause(
                "called-by-some-ranks",
                "problem",
                (rank,),
                call.place,
                f"Line {call.place.line}: rank {rank} waits in {call.text.partition(' of (')[0]}{under}; "
                f"{', '.join(others)}. What one rank sends another must receive, in the same order.",
                (),
            )


def _by_rank(line: LineRuns) -> str:
    """``4 times on rank 0, 3 times on rank 1``."""
    runs = [f"{text.removeprefix('ran ')} on rank {rank}" for rank, text in sorted(line.runs.items())]
    return ", ".join(runs[:4])


def _partings(ranks: Ranks) -> Iterator[RankCause]:
    """The first call that not all ranks make: who waits there, and what lets the others by."""
    for parting in ranks.partings:
        called = [value for value in parting.values if value.place is not None]
        whole = ranks_text(parting.group) if parting.group else "all ranks"
        if not called:
            continue
        first = min(called, key=lambda value: (value.returned, len(value.ranks)))
        clauses = [_clause(value) for value in called]
        none = [rank for value in parting.values if value.place is None for rank in value.ranks]
        is_guarded = any(value.place is not None and _under(ranks, value.ranks[0], value.place) for value in called)
        waited = max((ranks.waited.get(rank, 0) for value in called for rank in value.ranks), default=0)
        if len(called) == 1 and ranks.cut_off & set(none) and not is_guarded and waited < _LONG:
            continue  # (the others may have been about to call it)
        by_end: dict[str, list[int]] = {}
        for rank in none:
            by_end.setdefault(ranks.stood[rank], []).append(rank)
        clauses += [f"{ranks_text(some)} did not, and {stood}" for stood, some in by_end.items()]
        place, why = first.place, ""
        for value in called:
            if value.place is not None and (under := _under(ranks, value.ranks[0], value.place)):
                place, why = value.place, f" Line {value.place.line} is for some ranks only{under}."
                break
        counts = _counts(ranks, called[0].ranks[0]) if any(value.text == AVERAGING for value in called) else ""
        advice = (
            "Give all ranks as many batches, or train inside torch.distributed.algorithms.join.Join."
            if counts and not why
            else "Let all ranks make the same calls in the same order."
        )
        others = tuple(rank for value in parting.values if value is not first for rank in value.ranks)
        yield RankCause(
            "called-by-some-ranks",
            "problem",
            first.ranks if why else others,
            place,
            f"Call {parting.number:,} in which {whole} must take part is not the same: {'; '.join(clauses)}.{why}"
            f"{counts} {advice}",
            (),
        )


def _clause(value: CollectiveValue) -> str:
    """Who called what, or waits in it."""
    verb = "called" if value.returned else "waits in" if len(value.ranks) == 1 else "wait in"
    line = value.place.line if value.place is not None else 0
    return f"{ranks_text(value.ranks)} {verb} {value.text.partition(' of (')[0]} at line {line}"


def _counts(ranks: Ranks, of: int) -> str:
    """How often the line that calls the wrapped model ran on each rank, where that is not the same."""
    forwards = {(place.file, place.line) for place in ranks.facts[of].forwards}
    for line in ranks.lines:
        if (line.place.file, line.place.line) in forwards and len(line.runs) == len(ranks.facts):
            return f" Line {line.place.line}, which calls the model, ran {_by_rank(line)}."
    return ""


def _evaluated(ranks: Ranks) -> Iterator[RankCause]:
    """A model that some ranks train in evaluation mode."""
    found: dict[Place, list[int]] = {}
    for rank, facts in ranks.facts.items():
        for place in dict.fromkeys(facts.evaluated):
            found.setdefault(place, []).append(rank)
    for place, some in found.items():
        others = tuple(rank for rank in ranks.facts if rank not in some)
        if others:
            yield RankCause(
                "evaluated-on-some-ranks",
                "warning",
                tuple(some),
                place,
                f"Line {place.line}: {place.source.strip()} ran on {ranks_text(some)} only"
                f"{_under(ranks, some[0], place)}, and backward passes followed there: "
                "what asks for the mode (dropout, batch norms) does not do there what it does on "
                f"{ranks_text(others)}.",
                (),
            )


def _replicas(ranks: Ranks) -> Iterator[RankCause]:
    """The first look at an optimizer's parameters at which ranks differ in them, or in some of their gradients."""
    looks: dict[tuple[int, int], dict[int, ReplicaLook]] = {}
    for rank, facts in ranks.facts.items():
        for look in facts.looks:
            looks.setdefault((look.optimizer, look.step), {})[rank] = look
    done: set[int] = set()
    for (optimizer, step), by_rank in sorted(looks.items()):
        known = list(by_rank.values())
        if optimizer in done or len(known) < 2 or any(one.names != known[0].names for one in known):
            continue
        whole = range(len(known[0].names))
        got = [at for at in whole if any(one.gradients[at] for one in known)]
        apart = [at for at in whole if not _alike([one.norms[at] for one in known], _APART)]
        unlike = [at for at in got if not _alike([one.gradients[at] for one in known], _SAME)]
        names, made = known[0].names, known[0].made
        if got and apart and not unlike:
            done.add(optimizer)
            lines = listed([str(line) for line in sorted({made[at] for at in apart} - {0})])
            values = ", ".join(f"{one.norms[apart[0]]:.4g} on rank {rank}" for rank, one in sorted(by_rank.items())[:4])
            yield RankCause(
                "replicas-differ",
                "warning",
                tuple(by_rank),
                known[0].place,
                f"Line {known[0].place.line}, step {step:,}: the gradients are the same on all ranks, and so averaged, "
                f"but {listed([names[at] for at in apart])} differ between them (norm of {names[apart[0]]}: {values}): "
                "each rank trains a model of its own. Make the model with the same seed on all ranks"
                f"{f' (lines {lines})' if lines else ''}, or broadcast its parameters from rank 0 first.",
                tuple(names[at] for at in apart),
            )
        elif unlike and len(unlike) < len(got) and not set(unlike) & set(apart):
            wrapped = ranks.facts[min(by_rank)].wrapped
            roots = {name.partition(".")[0] for name in wrapped}
            late = [at for at in unlike if names[at] not in wrapped and names[at].partition(".")[0] in roots]
            if not wrapped or not late or len(late) < len(unlike) or any(one.ignores for one in ranks.facts.values()):
                continue
            done.add(optimizer)
            wrapped_at = ranks.facts[min(by_rank)].wrapped_at
            line = max(made[at] for at in late)
            is_later = 0 < wrapped_at < line  # else they were there, and frozen
            place = known[0].place
            if is_later:
                place = place._replace(line=line, end_line=line, source="", function="")
            those, were = listed([names[at] for at in late]), "was" if len(late) == 1 else "were"
            yield RankCause(
                "gradient-not-averaged",
                "warning",
                tuple(by_rank),
                place,
                f"The gradients of {those} differ between the ranks at step {step:,}, those of others do not: "
                "DistributedDataParallel averages those of what required grad in the model when it was wrapped"
                f"{f' (line {wrapped_at})' if wrapped_at else ''}, and {those} {were} not among that"
                f"{f' (made at line {line})' if is_later else ''}. Change the model first, and wrap it then.",
                tuple(names[at] for at in late),
            )


def _alike(values: list[float | None], part: float) -> bool:
    """Whether norms are the same but for rounding; those that are not known are."""
    known = [value for value in values if value is not None]
    return len(known) < len(values) or max(known) - min(known) <= part * max(known)


def _under(ranks: Ranks, rank: int, place: Place) -> str:
    """The ``if`` that lets only some ranks come to a line."""
    line = ranks.facts[rank].branches.get((place.file, place.line), 0)
    return f" (the if of line {line} asks for the rank)" if line else ""


def ranks_text(ranks: Sequence[int]) -> str:
    """``rank 1``, ``ranks 0, 2 to 5``."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and runs[-1][-1] + 1 == rank:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(texts)}"
