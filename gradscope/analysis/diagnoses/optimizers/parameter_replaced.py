"""A parameter whose name was given to another tensor after the optimizer was made: the optimizer steps the old one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, PARAMETER
from gradscope.recording.rows import BindingKind, EventKind, OpKind

PASSES = 2
"""Passes that gave a gradient to what has taken a parameter's name from which on it is reported."""


class _Store(NamedTuple):
    """A statement that gave a name to a tensor."""

    name: str
    file: int
    function: int
    """Where the name belongs to."""
    span: int
    op: int


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each parameter that an optimizer holds and that a statement put others in the place of."""
    index, lives = sources.index, sources.lives
    held = sources.events.in_optimizers
    flags = index.recording.tensors.column("flags")
    leaves = [one for one in lives.passes if one not in held and flags[one] & LEAF and _was_made(flags[one])]
    stored = [(leaf, store) for leaf in leaves for store in _names(sources, leaf, BindingKind.STORE)]
    if not stored:
        return
    for optimizer in seen_optimizers(index, sources.events):
        for tensor in sorted(optimizer.tensors):
            own = {(one.name, one.file, one.function) for one in _names(sources, tensor)}
            others = [
                (leaf, store)
                for leaf, store in stored
                if (store.name, store.file, store.function) in own and _is_like(sources, leaf, tensor)
            ]
            others.sort(key=lambda one: one[1].op)
            is_next = bool(others) and _takes_its_place(sources, others[0], tensor)
            if is_next and _is_stepped_in_vain(sources, optimizer, tensor, others):
                yield _finding(sources, optimizer, tensor, others)


def _was_made(flags: int) -> bool:
    """Whether the run made a tensor: a parameter is first seen when it is used."""
    return bool(flags & PARAMETER) or not flags & EXTERNAL


def _takes_its_place(sources: Sources, other: tuple[int, _Store], tensor: int) -> bool:
    """Whether a leaf is that which a name stands for next: the part of an object may be another object's."""
    leaf, store = other
    return store.name.isidentifier() or tensor in sources.flow.origins(leaf, sources.lives.passes[leaf][0])


def _names(sources: Sources, tensor: int, kind: BindingKind | None = None) -> list[_Store]:
    """The names under which a tensor was seen, or stored."""
    index, bindings = sources.index, sources.index.recording.bindings
    found = []
    for row in sources.bindings_of.get(tensor, ()):
        one = bindings[row]
        name = index.recording.text(one.name)
        if one.span >= 0 and kind in (None, one.kind):
            span = index.recording.spans[one.span]
            found.append(_Store(name, span.file, span.function, one.span, one.op))
    return found


def _is_like(sources: Sources, leaf: int, tensor: int) -> bool:
    layouts = sources.index.recording.layouts
    one, other = (layouts[sources.index.recording.tensors.column("layout")[each]] for each in (leaf, tensor))
    return one.shape == other.shape


def _is_stepped_in_vain(sources: Sources, optimizer: Optimizer, tensor: int, others: list[tuple[int, _Store]]) -> bool:
    """Whether the optimizer went on to step while others got the gradients, and the parameter none any more."""
    index, lives = sources.index, sources.lives
    since = min(store.op for _, store in others)
    passes = sorted({op for leaf, _ in others for op in lives.passes[leaf] if op > since})
    if len(passes) < PASSES or since < optimizer.made.op or lives.passes.get(tensor, [NONE])[-1] > passes[0]:
        return False
    func = f"{optimizer.name}.step"
    steps = [op for op in index.of_kind(OpKind.STEP) if op >= passes[0] and index.func(op) == func]
    steps += [one.op for one in sources.events.of(EventKind.STEP) if one.subject == optimizer.made.subject]
    return sum(step > passes[0] for step in steps) >= PASSES


def _finding(sources: Sources, optimizer: Optimizer, tensor: int, others: list[tuple[int, _Store]]) -> Finding:
    index, (leaf, store) = sources.index, others[-1]
    passes = sorted({op for other, _ in others for op in sources.lives.passes[other]})
    line = index.span_line(store.span)
    return sources.finding(
        f"Line {line}: {store.name} is another tensor from here on, and {optimizer.name} goes on to step the one that "
        f"it was given, which gets no gradient any more ({index.times(passes):,} passes)",
        op=passes[-1],
        tensors=[leaf],
        causes=sources.cause_of_span("made", store.span),
        evidence=[Evidence("events", optimizer.made.row), Evidence("tensors", tensor)],
        advice="Write the new values into the parameter, under torch.no_grad(): copy_().",
    )


DIAGNOSIS = Diagnosis(
    code="parameter-replaced",
    title="an optimizer steps a tensor whose name is another's by now",
    severity="warning",
    explanation=Explanation(
        meaning="""A tensor was given to an optimizer, and a later statement gave its name to a new leaf. Backward
            passes fill the .grad of the new one, and the optimizer's steps find none in the one that they know.""",
        reason="""An optimizer holds tensors, not names. w = project(w).detach().requires_grad_() makes a new tensor and
            leaves the old one as it is, where the optimizer has it.""",
        remedy="""Change the values and keep the tensor: with torch.no_grad(): w.copy_(project(w)). Where the tensor has
            to be another (another shape), make a new optimizer after it.""",
    ),
    example=Example(
        shows="""\
import torch

w = torch.ones(3, requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
for step in range(5):
    optimizer.zero_grad()
    w.pow(2).sum().backward()
    optimizer.step()
    w = w.clamp(0, 1).detach().requires_grad_()
""",
        instead_of="w = w.clamp(0, 1).detach().requires_grad_()",
        silent="w.data.clamp_(0, 1)",
    ),
    find=_find,
)
