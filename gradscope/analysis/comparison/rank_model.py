"""What is known of the processes of a job beside each other, and the causes that are found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from gradscope.analysis.comparison.collective_orders import CollectiveParting
from gradscope.analysis.comparison.differing_branches import DifferingBranches
from gradscope.analysis.facts.ranks.rank_facts import RankFacts
from gradscope.analysis.report_model import Place, Severity
from gradscope.frames.blocks.deciding_choices import DecidingChoice

RankCauseName = Literal[
    "layer-on-some-ranks",
    "called-by-some-ranks",
    "send-without-recv",
    "branch-on-some-ranks",
    "evaluated-on-some-ranks",
    "replicas-differ",
    "gradient-not-averaged",
]


class RankCause(NamedTuple):
    """One cause."""

    kind: RankCauseName
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


class DifferingChoice(NamedTuple):
    """An ``a if question else b`` that did not give the same part on all ranks."""

    place: Place
    choice: DecidingChoice
    took: Mapping[int, str]
    """By rank the part that it ran."""


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
    branches: DifferingBranches
    choices: Sequence[DifferingChoice]
    silent: Sequence[CollectiveParting]
    """Where all ended well: the first calls that differ among all that others must take part in, passes too."""
    bypassed: Mapping[int, Place]
    """Where ranks call the module inside DistributedDataParallel."""
    whole: frozenset[int]
    """Ranks of which all that they called is known."""
    has_own_error: bool
    """Whether one raised what has nothing to do with the others: they then wait for it, and that is the cause."""


def took_text(one: DifferingChoice) -> str:
    """``Line 9 (rank == 0) took a(x) on rank 0, b(x) on rank 1``."""
    by_part: dict[str, list[int]] = {}
    for rank, part in one.took.items():
        by_part.setdefault(part, []).append(rank)
    parts = ", ".join(f"{part} on {ranks_text(some)}" for part, some in by_part.items())
    return f"Line {one.choice.line} ({one.choice.question}) took {parts}"


def by_rank_text(runs: Mapping[int, str]) -> str:
    """``4 times on rank 0, 3 times on rank 1``, of what a line has by rank."""
    return ", ".join([f"{text.removeprefix('ran ')} on rank {rank}" for rank, text in sorted(runs.items())][:4])


def runs_text(line: LineRuns, ranks: int) -> str:
    """``ran on rank 1 only``, ``ran 4 times on rank 0, 3 times on rank 1``: how often so many ranks ran a line."""
    some = tuple(line.runs)
    return f"ran on {ranks_text(some)} only" if len(some) < ranks else f"ran {by_rank_text(line.runs)}"


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
