"""Where ranks that train one model go different ways in what gradients go through, and which ``if`` led them there."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.comparison.differing_branches import DifferingBranch
from gradscope.analysis.comparison.rank_model import DifferingChoice, LineRuns, RankCause, Ranks, runs_text, took_text
from gradscope.analysis.facts.passes.lines_in_passes import Line

BRANCHES = ("if", "match")
"""Statements that choose a way; a loop that goes round more often has more data."""
_SAID = 4
"""Statements that are told, at most."""


def branches_in_passes(ranks: Ranks) -> Iterator[RankCause]:
    """Of a model whose gradients are averaged or spread over the ranks: they then belong to different losses."""
    shared = next((facts.shared_at for facts in ranks.facts.values() if facts.shared_at is not None), None)
    if shared is None:
        return
    found: dict[Line, tuple[DifferingBranch, LineRuns]] = {}
    for line in ranks.lines:
        where = line.place.file, line.place.line
        if any(where in facts.in_passes for facts in ranks.facts.values()):
            branch = ranks.branches.of(where)
            if branch is not None and (branch.asks_for_rank or not _may_differ(ranks)) and branch.keyword in BRANCHES:
                found.setdefault(branch.line, (branch, line))
    for branch, line in list(found.values())[:_SAID]:
        yield _cause(branch, line, shared)
    for one in ranks.choices[:_SAID]:
        where = one.place.file, one.place.line
        is_meant = not one.choice.asks_for_rank and _may_differ(ranks)
        if not is_meant and any(where in facts.in_passes for facts in ranks.facts.values()):
            yield _cause_of_choice(one, shared)


def _cause_of_choice(one: DifferingChoice, shared: int) -> RankCause:
    parts = list(one.took.values())
    return RankCause(
        "branch-on-some-ranks",
        "warning" if one.choice.asks_for_rank else "note",
        tuple(rank for rank, part in one.took.items() if part != parts[0]),
        one.place,
        f"{took_text(one)}, and that is part of what backward passes went through. {_outcome(shared)}",
        (),
    )


def _outcome(shared: int) -> str:
    wrapped = f" (wrapped at line {shared})" if shared else ""
    return (
        f"The ranks train one model{wrapped}: what they average are gradients of losses that were not computed alike. "
        "Let all ranks go one way there, or decide by a value that all of them have (all_reduce or broadcast it first)."
    )


def _may_differ(ranks: Ranks) -> bool:
    """Whether DistributedDataParallel was told that ranks use other parameters: data decide there."""
    return any(facts.forwards and not facts.wrapped for facts in ranks.facts.values())


def _cause(branch: DifferingBranch, first: LineRuns, shared: int) -> RankCause:
    """Of a statement, and the first line that it decided on."""
    number = branch.line[1]
    most = max(branch.runs.values())
    decides = "asks for the rank" if branch.asks_for_rank else "does not decide alike on all ranks"
    return RankCause(
        "branch-on-some-ranks",
        "warning" if branch.asks_for_rank else "note",
        tuple(rank for rank, runs in branch.runs.items() if runs == most),
        first.place._replace(line=number, end_line=number, source=branch.header),
        f"Line {number} ({branch.header.rstrip(':')}) {decides}: line {first.place.line} "
        f"{runs_text(first, len(branch.runs))}, and is part of what backward passes went through. {_outcome(shared)}",
        (),
    )
