"""Parameters that a function freezes for a computation of its own and does not set back: training goes on without."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.calls_that_freeze import span_in_function, ways_of_freezing
from gradscope.analysis.facts.modules.frozen_for_turns import FrozenForTurn, frozen_for_turns
from gradscope.analysis.facts.modules.left_by_contexts import LeftByContext, left_by_contexts
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import OpKind

PASSES = 2
"""Passes of the training that came after from which on it is reported."""
_PASSES = (OpKind.BACKWARD, OpKind.GRAD)


class _Left(NamedTuple):
    """A parameter that a function left frozen."""

    change: int
    """The row of ``changes`` that says so."""
    op: int
    span: int
    """Where the function did so, or called what did."""
    function: str
    passes: tuple[int, ...]
    """Passes of a line that had given it gradients before, and gave it none."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one line froze."""
    index, lives = sources.index, sources.lives
    ways = ways_of_freezing(sources.index, sources.events)
    alike: dict[int, list[tuple[int, _Left]]] = {}
    for tensor in lives.steps:
        if (left := _left(sources, tensor, ways)) is not None:
            alike.setdefault(index.statement_of_span[left.span], []).append((tensor, left))
    for group in alike.values():
        tensors, last = [tensor for tensor, _ in group], group[0][1]
        names = sources.listed([sources.names.of(tensor) for tensor in tensors])
        line = index.span_line(last.span)
        yield sources.finding(
            f"Line {line}: {last.function} switches requires_grad off for {names}, for a gradient of its own, and does "
            f"not set it back; training has given them none since ({index.times(last.passes):,} passes)",
            op=last.passes[-1],
            tensors=tensors,
            causes=sources.cause_of_span("set", last.span),
            evidence=[*(Evidence("changes", left.change) for _, left in group), Evidence("ops", last.op)],
            advice="Set it back at the end, or leave it out: autograd.grad computes for the tensors it is asked about.",
        )
    yield from _of_turns(sources)
    yield from _of_contexts(sources)


def _of_contexts(sources: Sources) -> Iterator[Finding]:
    """Of those that a context manager froze, and did not set back at its end: one finding for each of its lines."""
    index = sources.index
    alike: dict[int, list[LeftByContext]] = {}
    for one in left_by_contexts(index, sources.events):
        alike.setdefault(index.statement_of_span[one.span], []).append(one)
    for group in alike.values():
        first = group[0]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        them = "it" if len(group) == 1 else "them"
        yield sources.finding(
            f"Line {index.span_line(first.span)}: {first.manager} switches requires_grad off for {names}, and when the "
            f"with of line {index.span_line(first.opened)} is left, that is not set back",
            why=f"an optimizer was given {them} to train, and no pass has given {them} a gradient since "
            f"({index.times(first.passes):,} passes)",
            op=first.passes[-1],
            tensors=[one.tensor for one in group],
            causes=sources.cause_of_span("set", first.span),
            evidence=[*(Evidence("changes", one.change) for one in group), Evidence("ops", first.passes[0])],
            advice="Set it back behind the yield, or in __exit__.",
        )


def _of_turns(sources: Sources) -> Iterator[Finding]:
    """Of those that were frozen for another network's turn, in each round: one finding for each line that does so."""
    index = sources.index
    alike: dict[int, list[FrozenForTurn]] = {}
    for one in frozen_for_turns(index, sources.lives, sources.passes_by_step, sources.events):
        alike.setdefault(index.op_statement[one.op], []).append(one)
    for group in alike.values():
        first = group[0]
        names = sources.listed([sources.names.of(one.tensor) for one in group])
        span = span_in_function(index, sources.events, first.op, index.function_of(first.turn))
        them = "it" if len(group) == 1 else "them"
        if first.passes:
            own = f"line {index.op_line(first.own)} has given {them} no gradient since"
            times = f"{index.times(first.passes):,} passes"
        else:
            own = f"what line {index.op_line(first.uses[-1])} computes with {them} leads to no gradient since"
            times = f"{index.times(first.uses):,} times"
        yield sources.finding(
            f"Line {index.span_line(span)}: requires_grad is switched off for {names}, before the pass of line "
            f"{index.op_line(first.turn)}, which is for others, and nothing switches it on again",
            why=f"{own} ({times}), so that {'it is' if len(group) == 1 else 'they are'} not trained any more",
            op=(first.passes or first.uses)[-1],
            tensors=[one.tensor for one in group],
            causes=sources.cause_of_span("set", span),
            evidence=[*(Evidence("changes", one.change) for one in group), Evidence("ops", first.turn)],
            advice="Switch it on again after that pass: requires_grad_(True).",
        )


def _left(sources: Sources, tensor: int, ways: dict[int, list[list[int]]]) -> _Left | None:
    """The change that left a trained parameter frozen, where a function around it had a gradient to compute."""
    index, lives = sources.index, sources.lives
    rows = index.changed_ops.get(tensor, [])
    if not rows:
        return None
    change = index.recording.changes[rows[-1]]
    if change.after or not change.before or not any(step < change.op for step in lives.steps[tensor]):
        return None
    places = {index.op_statement[op] for op in lives.passes[tensor] if op < change.op}
    passes = [op for op in sources.hooks.pass_ops if op > change.op]
    users = sorted(index.users.of(tensor))
    took_part = [ops_between(users, before, op) for before, op in pairwise((change.op, *passes))]
    for span in next(iter(ways.get(index.recording.ops.column("span")[change.op], [])), []):
        where = index.recording.spans[span]
        function = index.recording.text(where.function)
        if function == "<module>" or "__init__" in function:
            return None
        if not _computes_for_itself(sources, change.op, (where.file, where.function), tensor):
            continue
        after = tuple(
            op
            for op, uses in zip(passes, took_part, strict=True)
            if uses and index.op_statement[op] in places and index.op_place(op).function != function
        )
        return _Left(rows[-1], change.op, span, function, after) if len(after) >= PASSES else None
    return None


def _computes_for_itself(sources: Sources, op: int, function: tuple[int, int], tensor: int) -> bool:
    """Whether the next pass after an op is one of a function, in which no step changes what is trained with a tensor.

    Such a step would make it a phase of the training, for which a part may be frozen on purpose.
    """
    index, kinds = sources.index, sources.index.recording.ops.column("kind")
    following = [index.statements[index.op_statement[one]] for one in range(op, index.op_count)]
    is_own = [(one.file, one.function) == function for one in following]
    first = next((at for at in range(len(is_own)) if kinds[op + at] in _PASSES), None)
    beside = {one for event in sources.events.in_optimizers.get(tensor, ()) for one in event.tensors}
    steps = [op + at for at, mine in enumerate(is_own) if mine and kinds[op + at] == OpKind.STEP]
    is_phase = any(not beside.isdisjoint(index.uses.of(step)) for step in steps)
    return first is not None and is_own[first] and not is_phase


DIAGNOSIS = Diagnosis(
    code="left-frozen",
    title="parameters that were frozen for a computation and never set back",
    severity="warning",
    explanation=Explanation(
        meaning="""A function switched requires_grad off on parameters that were being trained, computed a gradient of
            its own (a saliency map, an attack, a report), and returned. The training that went on has given them no
            gradient since. Or it was switched off in each round before the pass of another network, and on in none. Or
            a context manager switched it off and did not switch it on when the with was left.""",
        reason="""requires_grad is a property of the tensor, not of the function that sets it: it stays as it was set
            for all who use the parameter. The loss still decreases, by what is not frozen, and no error tells.""",
        remedy="""Set it back when the computation is over (try … finally), or do not change it: autograd.grad(score, x)
            gives the gradient for x alone and leaves .grad of all parameters as they are.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)

def saliency(x):
    body.requires_grad_(False)
    x = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(head(body(x)).sum(), x)
    return slope.abs()

for step in range(6):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).sum().backward()
    optimizer.step()
    if step == 2:
        saliency(torch.ones(1, 3))
""",
        instead_of="body.requires_grad_(False)",
        silent="body.zero_grad()",
    ),
    find=_find,
)
