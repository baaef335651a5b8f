"""One gradient that two steps apply: two optimizers hold a parameter, or a step is made at two lines.

One statement may step several optimizers in a loop. Which of them a step was is known by what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import first_after, last_before
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import OpKind

TIMES = 2
"""Gradients that were applied twice from which on it is reported."""


class _Twice(NamedTuple):
    first: int
    """The step, the last time."""
    second: int
    times: int


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    found: dict[tuple[int, int], dict[int, _Twice]] = {}
    optimizers = seen_optimizers(index, sources.events)
    for leaf, steps in sources.lives.steps.items():
        twice = _of_leaf(sources, leaf, steps, optimizers)
        if twice is not None and twice.times >= TIMES:
            lines = (index.op_statement[twice.first], index.op_statement[twice.second])
            found.setdefault(lines, {})[leaf] = twice
    for leaves in found.values():
        holders = [one for one in optimizers if one.tensors >= leaves.keys()]
        yield _finding(sources, leaves, holders)


def _of_leaf(sources: Sources, leaf: int, steps: list[int], optimizers: list[Optimizer]) -> _Twice | None:
    """Two steps, at two lines or of two optimizers, that took the gradient of one pass, which was there still."""
    index, lives = sources.index, sources.lives
    kinds = index.recording.ops.column("kind")
    passes, cleared = lives.passes[leaf], lives.cleared.get(leaf, [])
    pairs = [
        (first, second)
        for first, second in pairwise(steps)
        if kinds[first] == kinds[second] == OpKind.STEP
        if last_before(cleared, first) < last_before(passes, first)
        if not first < first_after(passes, first) < second and not first < first_after(cleared, first) < second
        if index.op_statement[first] != index.op_statement[second]
        or index.func(first) != index.func(second)
        or _are_of_two(sources, optimizers, first, second)
    ]
    return _Twice(*pairs[-1], index.times(second for _, second in pairs)) if pairs else None


def _are_of_two(sources: Sources, optimizers: list[Optimizer], first: int, second: int) -> bool:
    """Whether two steps of one class are of two optimizers: none holds what both wrote, or one wrote all it has."""
    index = sources.index
    one, other = (frozenset(index.uses.of(op)) for op in (first, second))
    holders = [{place for place, has in enumerate(optimizers) if wrote <= has.tensors} for wrote in (one, other)]
    if not all(holders) or one == other:
        return False
    return holders[0].isdisjoint(holders[1]) or any(has.tensors in (one, other) for has in optimizers)


def _finding(sources: Sources, leaves: dict[int, _Twice], holders: list[Optimizer]) -> Finding:
    index = sources.index
    last = max(leaves.values())
    names = sources.listed([sources.names.at(leaf, last.second) for leaf in leaves])
    calls = (index.func(last.first), index.func(last.second))
    lines = (index.op_line(last.first), index.op_line(last.second))
    often = f"({last.times:,} times)"
    if len(holders) == 2:
        made = [line_of_making(sources, one) for one in holders]
        symptom = (
            f"Line {made[1]}: the {holders[1].name} made there holds {names}, as the {holders[0].name} of line "
            f"{made[0]} does"
            if made[0] != made[1]
            else f"Line {made[1]}: two optimizers made there hold {names}"
        )
        each = f", by {calls[0]} and by {calls[1]}" if calls[0] != calls[1] else ", once by each"
        why = f"each gradient of theirs is applied twice {often}{each}"
        causes = list(dict.fromkeys(cause for one in reversed(holders) for cause in cause_of_making(sources, one)))
        advice = "Give each parameter to one optimizer."
    else:
        symptom = f"Line {lines[1]}: {calls[1]} applies the gradients of {names} again that line {lines[0]} applied"
        why = f"neither a backward pass nor zero_grad is between the two {often}"
        causes, advice = sources.cause("step", last.second), "Step once."
    return sources.finding(
        symptom,
        why=why,
        op=last.second,
        tensors=list(leaves),
        causes=causes,
        evidence=[Evidence("ops", last.first), *(Evidence("events", one.made.row) for one in holders)],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="gradient-applied-twice",
    title="one gradient that two optimizer steps apply",
    severity="warning",
    explanation=Explanation(
        meaning="""A parameter was written by two optimizer steps after one backward pass, again and again: two
            optimizers hold it, or a step is made at two lines.""",
        reason="""A step takes what is in .grad, whoever put it there. Of a part that two models share, the optimizers
            of both take the whole gradient: it moves twice, with two sets of moments.""",
        remedy="""Give the shared part to one of the optimizers (or to a third one), the rest to the other.
            scaler.step(optimizer) makes the step itself: optimizer.step() after it is a second one.""",
    ),
    example=Example(
        shows="""\
import torch

body, left, right = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
first = torch.optim.SGD([*body.parameters(), *left.parameters()], lr=0.1)
second = torch.optim.SGD([*body.parameters(), *right.parameters()], lr=0.1)
for step in range(3):
    shared = body(torch.rand(5, 3))
    first.zero_grad(), second.zero_grad()
    (left(shared) + right(shared)).sum().backward()
    first.step()
    second.step()
""",
        instead_of="second = torch.optim.SGD([*body.parameters(), *right.parameters()], lr=0.1)",
        silent="second = torch.optim.SGD(right.parameters(), lr=0.1)",
    ),
    find=_find,
)
