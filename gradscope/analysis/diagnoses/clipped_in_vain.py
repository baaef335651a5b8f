"""Gradients that are clipped before there are any, or when no step will see them any more."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import RAISED

CALLS = 2
"""Calls without an effect from which on it is reported."""
_CLIPS = "nn.utils.clip_grad"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that clips, where no step ever took what a call of it clipped."""
    index = sources.index
    calls: dict[int, list[int]] = {}
    flags = index.recording.ops.column("flags")
    for op, func in enumerate(index.recording.ops.column("func")):
        if index.recording.text(func).startswith(_CLIPS) and not flags[op] & RAISED:
            calls.setdefault(index.op_statement[op], []).append(op)
    if not calls:
        return
    lives = sources.lives
    for ops in calls.values():
        is_measure = "inf" in index.span_source(ops[-1])
        if len(ops) >= CALLS and not is_measure and all(_is_in_vain(index, lives, op) for op in ops):
            yield from _finding(sources, lives, ops)


def _is_in_vain(index: Index, lives: GradientLives, op: int) -> bool:
    """Whether no gradient was there, or each that was clipped was cleared before anything took it."""
    clipped = [tensor for tensor in index.uses.of(op) if tensor in lives.owners]
    if not clipped:
        return not any(
            last_before(passes, op) > last_before(lives.cleared.get(tensor, []), op)
            for tensor, passes in lives.passes.items()
        )
    for gradient in clipped:
        tensor = lives.owners[gradient]
        cleared = first_after(lives.cleared.get(tensor, []), op)
        stepped = first_after(lives.steps.get(tensor, []), op)
        until = cleared if cleared >= 0 else index.op_count
        if NONE < stepped < until or any(op < use < until for use in index.users.of(gradient)):
            return False
        if cleared < 0 and first_after(lives.passes[tensor], op) >= 0:
            return False
    return True


def _finding(sources: Sources, lives: GradientLives, ops: list[int]) -> Iterator[Finding]:
    index, last = sources.index, ops[-1]
    given = [passes for passes in lives.passes.values() if first_after(passes, ops[0]) >= 0]
    stepped = [step for steps in lives.steps.values() if (step := first_after(steps, ops[0])) >= 0]
    if not given or not stepped:
        return
    backward = first_after(given[0], ops[0])
    were_there = any(len(index.uses.of(op)) for op in ops)
    found = "only gradients that were cleared before a step took them" if were_there else "no gradients"
    yield sources.finding(
        f"Line {index.op_line(last)}: {index.func(last).rpartition('.')[2]} found {found} ({len(ops):,} calls)",
        why="it comes before the backward pass whose gradients the step applies",
        op=last,
        tensors=list(lives.passes)[:1],
        causes=sources.cause("used", last),
        evidence=[Evidence("ops", backward)],
        advice="Clip after backward and before the step.",
    )


DIAGNOSIS = Diagnosis(
    code="clipped-in-vain",
    title="gradients were clipped when there were none to clip",
    severity="warning",
    explanation=Explanation(
        meaning="""Each call of clip_grad_norm_ or clip_grad_value_ at a line found no gradients, or gradients that were
            cleared before a step used them. The steps applied gradients that nothing had clipped.""",
        reason="""Clipping changes what is in .grad at that moment. Before backward that is nothing, or what is left of
            the round before.""",
        remedy="""The order is: clear, forward, backward, clip, step; with a GradScaler unscale_ comes before clip.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    loss = layer(torch.ones(2, 3)).sum()
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)
    loss.backward()
    optimizer.step()
""",
        instead_of="torch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
        silent="loss.backward(retain_graph=True)\ntorch.nn.utils.clip_grad_norm_(layer.parameters(), 1.0)",
    ),
    find=_find,
)
