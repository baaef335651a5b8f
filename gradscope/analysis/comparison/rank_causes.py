"""Why processes of a job wait for each other or train different models: what only their recordings together tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradscope.analysis.comparison.branch_causes import BRANCHES, branches_in_passes
from gradscope.analysis.comparison.collective_orders import CollectiveParting, CollectiveValue
from gradscope.analysis.comparison.rank_model import (
    DifferingChoice,
    LineRuns,
    RankCause,
    Ranks,
    by_rank_text,
    ranks_text,
    runs_text,
    took_text,
)
from gradscope.analysis.comparison.transfer_causes import unmatched_transfers
from gradscope.analysis.facts.ranks.rank_facts import AVERAGING, ReplicaLook
from gradscope.analysis.report_model import Place
from gradscope.analysis.wording import listed

_APART = 1e-4
"""The part by which norms of parameters must differ to be said to."""
_LONG = 5
"""Seconds that a rank must have waited for one that was cut off, for more than that one being behind to be said."""
_SAME = 1e-6
"""The part by which norms of gradients that were averaged differ at most."""


def rank_causes(ranks: Ranks) -> Iterator[RankCause]:
    """All that are known, the most harmful first."""
    found = list(_layers(ranks))
    if not found and not ranks.all_ended_well and not ranks.has_own_error:
        found = (
            list(_sharded(ranks, only_guarded=True))
            or list(_partings(ranks, ranks.partings, only_guarded=True))
            or list(_sharded(ranks, only_guarded=False))
            or list(_partings(ranks, ranks.partings, only_guarded=False))
            or list(unmatched_transfers(ranks))
            or list(_waiting(ranks))
        )
    elif not found and ranks.all_ended_well:
        found = [*_partings(ranks, ranks.silent, only_guarded=True), *unmatched_transfers(ranks)]
    yield from found or branches_in_passes(ranks)
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
        through = ranks.facts[given[0]].in_passes
        choices = (one for one in ranks.choices if (one.place.file, one.place.line) in through)
        choice = next((one for one in choices if _parts(one, given)), None)
        if choice is not None:
            said = f" {took_text(choice)}."
        elif those:
            where = those[0].place
            said = f" Line {where.line} ran on {ranks_text(given)} only{_under(ranks, given[0], where)}."
        yield RankCause(
            "layer-on-some-ranks",
            "problem",
            left_out,
            choice.place if choice is not None else those[0].place if those else place,
            f"Line {place.line}: backward gave {listed(names)} a gradient on {ranks_text(given)} and none on "
            f"{ranks_text(left_out)}, and {wrapper} lets every rank wait for all of its parameters.{said} "
            "Let all ranks use the same layers, or wrap with find_unused_parameters=True.",
            tuple(names),
        )


def _parts(one: DifferingChoice, given: Sequence[int]) -> bool:
    """Whether an expression gave one part on some ranks, and another on all others."""
    took = {one.took[rank] for rank in given}
    return len(took) == 1 and not took & {part for rank, part in one.took.items() if rank not in given}


def _sharded(ranks: Ranks, *, only_guarded: bool) -> Iterator[RankCause]:
    """The first layer with parameters spread over the ranks that not all ranks ran as often.

    Args:
        ranks: All that is known.
        only_guarded: Only one that some ranks were never let to.
    """
    for line in ranks.lines:
        place = line.place
        if not any((place.file, place.line) in facts.sharded_layers for facts in ranks.facts.values()):
            continue
        some, others = tuple(line.runs), tuple(rank for rank in ranks.facts if rank not in line.runs)
        most = max(_runs(line, rank) for rank in some)
        fewer, under = [rank for rank in ranks.facts if _runs(line, rank) < most], _under(ranks, some[0], place)
        if only_guarded and not (others and under):
            continue
        if not (others and under) and not all(_went_on(ranks, rank, some[0]) for rank in fewer):
            continue  # (it may have come to its end on the way there)
        said = f"ran on {ranks_text(some)} only{under}" if others else f"ran {by_rank_text(line.runs)}"
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


def _partings(ranks: Ranks, partings: Sequence[CollectiveParting], *, only_guarded: bool) -> Iterator[RankCause]:
    """The first call that not all ranks make: who waits there, and what lets the others by.

    Args:
        ranks: All that is known.
        partings: Of each group of ranks.
        only_guarded: Only those of which it is known what let some ranks, or some more often, come there.
    """
    for parting in partings:
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
                whose = "for some ranks only" if "asks for the rank" in under else "not run alike by all ranks"
                place, why = value.place, f" Line {value.place.line} is {whose}{under}."
                break
        past = [rank for value in parting.values if value.text != AVERAGING for rank in value.ranks]
        if not why and any(value.text == AVERAGING for value in called) and set(past) & set(ranks.bypassed):
            place, why = _bypassed(ranks, past)
        if not why and (led := _led_there(ranks)) is not None:
            place, why = led
        if only_guarded and not why:
            continue
        averages = any(value.text == AVERAGING for value in called)
        counts = _counts(ranks, called[0].ranks[0]) if averages and not why else ""
        advice = (
            "Give all ranks as many batches, or train inside torch.distributed.algorithms.join.Join."
            if counts
            else "Let all ranks make the same calls in the same order."
        )
        others = tuple(rank for value in parting.values if value is not first for rank in value.ranks)
        yield RankCause(
            "called-by-some-ranks",
            "warning" if ranks.all_ended_well else "problem",
            first.ranks if why else others,
            place,
            f"Call {parting.number:,} in which {whole} must take part is not the same: {'; '.join(clauses)}.{why}"
            f"{counts} {advice}",
            (),
        )


def _bypassed(ranks: Ranks, past: Sequence[int]) -> tuple[Place, str]:
    """Where ranks that are in no averaging call the module that it is about."""
    some = [rank for rank in past if rank in ranks.bypassed]
    place = ranks.bypassed[some[0]]
    return place, (
        f" Line {place.line} calls the module inside DistributedDataParallel on {ranks_text(some)}: gradients are not "
        "averaged there, and the others wait for it."
    )


def _led_there(ranks: Ranks) -> tuple[Place, str] | None:
    """A line that led to such calls and that not all ranks ran as often, with what let only some come there."""
    for line in ranks.lines:
        where = line.place.file, line.place.line
        for rank in line.runs:
            what = ranks.facts[rank].led_to.get(where)
            if what is not None and (under := _under(ranks, rank, line.place)):
                runs = runs_text(line, len(ranks.facts))
                return line.place, f" Line {line.place.line}, which leads to {what}, {runs}{under}."
    return None


def _clause(value: CollectiveValue) -> str:
    """Who called what, or waits in it."""
    verb = "called" if value.returned else "waits in" if len(value.ranks) == 1 else "wait in"
    line = value.place.line if value.place is not None else 0
    return f"{ranks_text(value.ranks)} {verb} {value.text.partition(' of (')[0]} at line {line}"


def _counts(ranks: Ranks, of: int) -> str:
    """How often the line that calls the wrapped model ran on each rank, where that is not the same.

    Not where a rank that ran it less often stands in the loop around it, or may: it waits, and has no fewer batches.
    """
    forwards = {(place.file, place.line) for place in ranks.facts[of].forwards}
    for line in ranks.lines:
        where = line.place.file, line.place.line
        if where in forwards and len(line.runs) == len(ranks.facts) and ranks.branches.is_over(where):
            return f" Line {line.place.line}, which calls the model, ran {by_rank_text(line.runs)}."
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
    """What lets only some ranks come to a line, or not as often."""
    if line := ranks.facts[rank].branches.get((place.file, place.line), 0):
        return _asks(line)
    branch = ranks.branches.of((place.file, place.line))
    if branch is None or branch.keyword not in BRANCHES:
        return ""
    if branch.asks_for_rank:
        return _asks(branch.line[1])
    runs = {at: f"{times:,} time{'s' * (times != 1)}" if times else "never" for at, times in branch.runs.items()}
    return f" (what the {branch.keyword} of line {branch.line[1]} decides on ran {by_rank_text(runs)})"


def _asks(line: int) -> str:
    return f" (the if of line {line} asks for the rank)"
