"""Statements that ran inside backward passes only: what they called there, and how often they ran.

Their calls have no rows, only counts by place and function. A call that the source names (``torch.autograd.grad(...)``)
is made once a run; of what is called below a line (a module's layers) any number is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from math import gcd
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.statement_counts.statement_runs import StatementRuns
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.rows import EventKind

PASSES = ("Tensor.backward", "torch.autograd.backward", "torch.autograd.grad")
"""Functions that run a backward pass."""


class InsideRun(NamedTuple):
    """One statement."""

    statement: int
    times: int
    """How often it ran; 0 where that is not known."""
    functions: tuple[str, ...]
    """What it called, by name."""
    within: str
    """What ran it: ``hooks``, ``checkpoint``, ``Square.backward``."""


def ran_inside_only(index: Index, runs: StatementRuns) -> list[InsideRun]:
    """The statements that ran inside passes and made no call outside."""
    outside = set(index.op_statement)
    if not index.events_by_kind.get(EventKind.RECOMPUTED):
        return []
    calls: dict[int, Counter[tuple[int, str]]] = defaultdict(Counter)
    for event in Events(index).of(EventKind.RECOMPUTED):
        statement = index.statement_of_span[event.span] if event.span >= 0 else NOWHERE
        if statement != NOWHERE and statement not in outside:
            calls[statement][event.span, str(event.detail.get("function"))] += event.subject
    known = {statement: _runs(index, runs, counts) for statement, counts in calls.items()}
    return [
        InsideRun(
            statement,
            known[statement] or runs.beside(statement, known),
            tuple(dict.fromkeys(function for _, function in counts)),
            runs.inside[statement],
        )
        for statement, counts in calls.items()
    ]


def passes_inside(index: Index) -> int:
    """How many backward passes code of the program's began inside others."""
    events = Events(index).of(EventKind.RECOMPUTED)
    return sum(event.subject for event in events if event.detail.get("function") in PASSES)


def _runs(index: Index, runs: StatementRuns, counts: Counter[tuple[int, str]]) -> int:
    """How often a statement ran by the calls of each of its spans; 0 where these do not tell.

    What stands in a part of a choice (``t if kind is None else t.to(kind)``) tells it where each part calls something.
    """
    named, below = 0, 0
    chosen: dict[int, Counter[int]] = defaultdict(Counter)
    parts: dict[int, int] = {}
    for (span, function), times in counts.items():
        if runs.is_repeated(span):
            continue
        place = index.recording.spans[span]
        source = index.recording.source(place.file, place.line, place.end_line)
        if f"{function.rpartition('.')[2]}(" in source:
            choice = runs.choice(span)
            if choice is None:
                named = max(named, times)
            else:
                number, part, parts[number] = choice
                chosen[number][part] = max(chosen[number][part], times)
        else:
            below = gcd(below, times)
    complete = [sum(taken.values()) for number, taken in chosen.items() if len(taken) == parts[number]]
    return max([named, *complete]) or below
