"""What an optimizer was given to train, and that never required grad: no step changes it."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.gradients.never_tracked import frozen_by_default, was_set, why_untracked
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps of an optimizer from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the tensors of an optimizer with the same reason."""
    for optimizer in seen_optimizers(sources.index, sources.events):
        idle = _idle(sources, optimizer)
        steps = _steps(sources, optimizer) if idle else []
        stepped = {tensor for op in steps for tensor in sources.index.uses.of(op)}
        alike: dict[str, list[tuple[int, list[Cause]]]] = {}
        for tensor in idle if len(steps) >= STEPS else ():
            reason = _reason(sources, optimizer, tensor, steps[-1])
            if reason is not None and tensor not in stepped:  # (a program may write .grad itself)
                alike.setdefault(reason[0], []).append((tensor, reason[1]))
        for why, found in alike.items():
            yield _finding(sources, optimizer, why, found, steps)


def _idle(sources: Sources, optimizer: Optimizer) -> list[int]:
    """The tensors of an optimizer that never required grad, and of which nothing was ever made to."""
    index = sources.index
    return sorted(
        tensor
        for tensor in optimizer.tensors
        if not was_set(sources, tensor) and not index.requires_grad(tensor, index.op_count)
    )


def _steps(sources: Sources, optimizer: Optimizer) -> list[int]:
    index = sources.index
    return [
        op
        for op in index.of_kind(OpKind.STEP)
        if op >= optimizer.made.op and index.func(op) == f"{optimizer.name}.step"
    ]


def _reason(sources: Sources, optimizer: Optimizer, tensor: int, before: int) -> tuple[str, list[Cause]] | None:
    """Why it does not require grad, where it was meant to: a plain tensor, or a table with a group of its own.

    A frozen parameter among all those of a model is what many programs have.
    """
    index = sources.index
    if not index.recording.tensors.column("flags")[tensor] & PARAMETER:
        return why_untracked(sources, tensor, before) if index.is_leaf(tensor) else None
    own = [group for group in optimizer.groups if tensor in group.tensors]
    is_alone = any(len(group.tensors) == 1 for group in own) and len(optimizer.groups) > 1
    return frozen_by_default(sources, tensor, before) if is_alone else None


def _finding(
    sources: Sources, optimizer: Optimizer, why: str, found: list[tuple[int, list[Cause]]], steps: list[int]
) -> Finding:
    tensors = [tensor for tensor, _ in found]
    names = sources.listed([sources.names.at(tensor, steps[-1]) for tensor in tensors])
    causes = [cause for _, several in found for cause in several]
    is_one, count = len(tensors) == 1, sources.index.times(steps)
    is_plain = not sources.index.recording.tensors.column("flags")[tensors[0]] & PARAMETER
    them, do_not = "it" if is_one else "them", f"do{'es' * is_one} not require grad"
    vain = f"none of its {count:,} steps changed {them}"
    if not causes:
        symptom = f"Line {optimizer.line}: {optimizer.name} was given {names} to train, which {do_not}: {vain}"
    elif is_plain:
        made = f"{'is a plain tensor' if is_one else 'are plain tensors'} and {do_not}"
        symptom = f"Line {causes[0].line}: {names} {made}: {optimizer.name} was given {them} to train, and {vain}"
    else:
        symptom = f"{why[:1].upper()}{why[1:]}: {optimizer.name} was given {names} to train, and {vain}"
    return sources.finding(
        symptom,
        op=steps[-1],
        tensors=tensors,
        causes=causes or sources.cause_of_event("made", optimizer.made),
        evidence=[Evidence("events", optimizer.made.row), Evidence("ops", steps[0])],
        advice="Make it an nn.Parameter, or requires_grad_() it before the optimizer is made." if is_plain else "",
    )


DIAGNOSIS = Diagnosis(
    code="untracked-in-optimizer",
    title="an optimizer holds what does not require grad",
    severity="warning",
    explanation=Explanation(
        meaning="""A plain tensor was given to an optimizer, did not require grad at any time, and had no .grad at any
            step. Or the table of an embedding, frozen by from_pretrained(), has a parameter group of its own.""",
        reason="""An optimizer takes any leaf, and passes by those that have no gradient. A tensor requires grad only if
            it was made so, or is an nn.Parameter; Embedding.from_pretrained() freezes unless freeze=False is given.""",
        remedy="""Wrap it in nn.Parameter, or give requires_grad=True (freeze=False) where it is made. Frozen
            parameters among all those of a model are not reported.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
scale = torch.ones(1)
optimizer = torch.optim.SGD([*layer.parameters(), scale], lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    (scale * layer(torch.ones(2, 3))).sum().backward()
    optimizer.step()
""",
        instead_of="scale = torch.ones(1)",
        silent="scale = torch.ones(1, requires_grad=True)",
    ),
    find=_find,
)
