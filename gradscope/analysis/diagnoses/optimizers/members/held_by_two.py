"""Parameters that have an optimizer of their own, and that the one of the whole model steps as well on a loss alike.

Optimizers may share parameters on purpose: an encoder that two losses train, one network after the other, two phases of
a training. What is meant to be trained apart from the rest, on other data, is known by this: both take gradients of one
kind of loss through the same parameters, in turn, each of its own batch, and one has no other parameters than these.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise, permutations
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import last_before
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.rows import GradOutcome, OpKind

TURNS = 2
"""How often each follows the other at least."""
_DEPTH = 4
"""Calls that are followed from a loss to the functions that it is made of."""
_GIVEN = (GradOutcome.CREATED, GradOutcome.ACCUMULATED)


class _StepOf(NamedTuple):
    op: int
    is_whole: bool
    """It is a step of the optimizer that has more."""


def _find(sources: Sources) -> Iterator[Finding]:
    optimizers = seen_optimizers(sources.index, sources.events)
    for own, whole in permutations(optimizers, 2):
        if own.tensors and own.tensors < whole.tensors:
            steps = _steps_in_turn(sources, own, whole)
            if steps and all(_are_alike(sources, own, *pair) for pair in steps):
                yield _finding(sources, own, whole, steps)


def _steps_in_turn(sources: Sources, own: Optimizer, whole: Optimizer) -> list[tuple[int, int]]:
    """A step of the one and the next of the other, both of which wrote what they share; none where there are few."""
    index, steps = sources.index, list[_StepOf]()
    names = {f"{own.name}.step", f"{whole.name}.step"}
    for op in index.of_kind(OpKind.STEP):
        written = frozenset(index.uses.of(op))
        if index.func(op) not in names or not own.tensors <= written:
            continue
        if written == own.tensors or written <= whole.tensors:
            steps.append(_StepOf(op, written != own.tensors))
    turns = [(one, other) for one, other in pairwise(steps) if one.is_whole != other.is_whole]
    counts = [sum(1 for one, _ in turns if one.is_whole == is_whole) for is_whole in (True, False)]
    return [(one.op, other.op) for one, other in turns] if min(counts) >= TURNS else []


def _are_alike(sources: Sources, own: Optimizer, first: int, second: int) -> bool:
    """Whether two steps apply gradients of one kind of loss, of the same parameters, from passes over other data."""
    leaf, passes = next(iter(own.tensors)), sources.lives.passes
    taken = [last_before(passes.get(leaf, []), step) for step in (first, second)]
    if not NONE < taken[0] < first < taken[1] < second:
        return False
    given = [_given(sources, one) for one in taken]
    losses = [_loss(sources, one) for one in taken]
    if given[0] != given[1] or losses[0] != losses[1] or not losses[0]:
        return False
    starts = [last_before(passes[leaf], one) for one in taken]
    data = [_data(sources, given[0], start, one) for start, one in zip(starts, taken, strict=True)]
    return bool(data[0] and data[1]) and data[0].isdisjoint(data[1])


def _given(sources: Sources, op: int) -> frozenset[int]:
    """The leaves that a pass gave gradients."""
    rows = sources.index.recording.gradients
    found = (rows[row] for row in sources.index.gradients.of(op))
    return frozenset(row.tensor for row in found if row.outcome in _GIVEN)


def _loss(sources: Sources, op: int) -> frozenset[str]:
    """The functions of ``torch.nn.functional`` that stand last before the loss of a pass."""
    index, found = sources.index, set[str]()
    todo = [(root, _DEPTH) for root in index.roots.get(op, ())]
    while todo:
        tensor, depth = todo.pop()
        made = index.made_by(tensor)
        if not 0 <= made < op or depth == 0:
            continue
        if index.func(made).startswith("F."):
            found.add(index.func(made))
        else:
            todo += [(one, depth - 1) for one in index.uses.of(made)]
    return frozenset(found)


def _data(sources: Sources, leaves: frozenset[int], after: int, before: int) -> frozenset[int]:
    """What else went into the calls that took parameters, and has no graph: batches."""
    index = sources.index
    nodes = index.recording.tensors.column("node")
    calls = {op for leaf in leaves for op in index.users.of(leaf) if after < op < before}
    kinds = index.recording.ops.column("kind")
    return frozenset(
        tensor
        for op in calls
        if kinds[op] == OpKind.CALL
        for tensor in index.uses.of(op)
        if tensor not in leaves and nodes[tensor] < 0
    )


def _finding(sources: Sources, own: Optimizer, whole: Optimizer, steps: list[tuple[int, int]]) -> Finding:
    index, last = sources.index, steps[-1][-1]
    times = index.times(step for pair in steps for step in pair) // 2
    names = sources.listed([sources.names.of(tensor) for tensor in own.tensors])
    kind = " and ".join(sorted(name.removeprefix("F.") for name in _loss(sources, _pass_of(sources, own, last))))
    return sources.finding(
        f"Line {line_of_making(sources, whole)}: the {whole.name} made there holds {names} as well, for which there is "
        f"an optimizer of its own ({own.name})",
        why=f"both step it in turn ({times:,} times), each after a {kind} over other data",
        op=last,
        tensors=sorted(own.tensors),
        causes=cause_of_making(sources, whole),
        evidence=[Evidence("ops", steps[-1][0]), Evidence("events", own.made.row), Evidence("events", whole.made.row)],
        advice="Leave out what the other one has, if it is to be trained by that one alone.",
    )


def _pass_of(sources: Sources, own: Optimizer, step: int) -> int:
    return last_before(sources.lives.passes[next(iter(own.tensors))], step)


DIAGNOSIS = Diagnosis(
    code="held-by-two-optimizers",
    title="parameters with an optimizer of their own are stepped by another one as well",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer has some parameters alone, another one has them among all others. Both step in turn,
            on the same kind of loss through the same parameters, each of batches of its own.""",
        reason="""model.parameters() gives every nn.Parameter of the model: those too that are to be trained apart, on
            other data (the weights of an architecture search, of a mixture, of samples). They are then fitted to the
            training data as well, and decayed there.""",
        remedy="""Give the optimizer of the model the other parameters only: those whose names, or whose ids, are not
            among the ones kept apart. Parameters that different losses train, or that one optimizer takes over from
            another, are not reported.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
mix = torch.nn.Parameter(torch.zeros(1))
outer = torch.optim.Adam([mix], lr=0.1)
inner = torch.optim.SGD([mix, *layer.parameters()], lr=0.1)
for step in range(4):
    for optimizer in (outer, inner):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(mix.exp() * layer(torch.rand(4, 3)), torch.ones(4, 1))
        loss.backward()
        optimizer.step()
""",
        instead_of="inner = torch.optim.SGD([mix, *layer.parameters()], lr=0.1)",
        silent="inner = torch.optim.SGD(layer.parameters(), lr=0.1)",
    ),
    find=_find,
)
