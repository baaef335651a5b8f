"""New layers that an optimizer was given, and that were frozen before with the model that they had been put into."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.report_model import Evidence
from gradscope.frames.modules.classes_put_in import is_put_in
from gradscope.recording import NONE
from gradscope.recording.rows import EventKind, OpKind

PASSES = 2
"""Passes that went through what was frozen from which on it is reported."""


class _Adapters(NamedTuple):
    """What one statement froze of an optimizer's parameters, with others that no optimizer has."""

    frozen: int
    """The op that froze the first of them."""
    tensors: list[int]


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for what one statement froze of an optimizer's parameters."""
    for optimizer in seen_optimizers(sources.index, sources.events):
        for adapters in _adapters(sources, optimizer):
            passes = _passes_through(sources, optimizer, adapters)
            if len(passes) >= PASSES and _steps_others(sources, optimizer, adapters):
                yield _finding(sources, optimizer, adapters, passes)


def _adapters(sources: Sources, optimizer: Optimizer) -> Iterator[_Adapters]:
    """What was frozen for good before it was given, with older parameters that nobody gave to an optimizer."""
    index, by_statement = sources.index, dict[int, dict[int, int]]()
    for tensor in index.changed_ops:
        if (off := _last_off(sources, tensor)) >= 0 and index.is_new_parameter(tensor):
            by_statement.setdefault(index.op_statement[off], {})[tensor] = off
    for frozen in by_statement.values():
        idle = (tensor for tensor in frozen if tensor not in sources.lives.passes)  # (else they have had their time)
        held = [tensor for tensor in idle if _is_given_after(optimizer, tensor, frozen[tensor])]
        others = [tensor for tensor in frozen if tensor not in sources.events.in_optimizers]
        if not held or not others:
            continue
        made = {tensor: index.made_by(tensor) for tensor in frozen}
        makers = {index.op_statement[made[tensor]] for tensor in held}
        if makers.isdisjoint(index.op_statement[made[tensor]] for tensor in others) and not any(
            made[tensor] < min(made[one] for one in others) or not _is_put_in(sources, made[tensor]) for tensor in held
        ):
            first = min(frozen[tensor] for tensor in held)
            if not _has_trained_siblings(sources, makers, frozen, first):
                yield _Adapters(first, held)


def _has_trained_siblings(sources: Sources, makers: set[int], frozen: Collection[int], before: int) -> bool:
    """Whether layers of the same statements, made before, are trained: a part was frozen on purpose with its own."""
    index = sources.index
    return any(
        0 <= (made := index.made_by(tensor)) < before and index.op_statement[made] in makers
        for tensor in sources.lives.steps
        if tensor not in frozen
    )


def _is_given_after(optimizer: Optimizer, tensor: int, off: int) -> bool:
    return any(tensor in group.tensors and off < group.op for group in optimizer.groups)


def _last_off(sources: Sources, tensor: int) -> int:
    """The op that switched a parameter off for good; NONE where none did."""
    changes, rows = sources.index.recording.changes, sources.index.changed_ops.get(tensor, [])
    last = changes[rows[-1]] if rows else None
    return last.op if last is not None and last.before and not last.after else NONE


def _is_put_in(sources: Sources, made: int) -> bool:
    index, files = sources.index, sources.index.recording.files
    where = index.statements[index.op_statement[made]]
    texts = (file.text for file in files if file.is_user)
    return where.file >= 0 and is_put_in(
        files[where.file].text, index.op_line(made), index.op_place(made).function, texts
    )


def _passes_through(sources: Sources, optimizer: Optimizer, adapters: _Adapters) -> list[int]:
    """The passes before each of which all that was frozen was computed with, since the optimizer was made."""
    index, kinds, since = sources.index, sources.index.recording.ops.column("kind"), optimizer.made.op
    ends = [op for op in sources.hooks.pass_ops if op > since]
    uses = [[op for op in sorted(index.users.of(one)) if kinds[op] == OpKind.CALL] for one in adapters.tensors]
    return [end for start, end in pairwise((since, *ends)) if all(ops_between(each, start, end) for each in uses)]


def _steps_others(sources: Sources, optimizer: Optimizer, adapters: _Adapters) -> bool:
    """Whether an optimizer steps others of its parameters."""
    index = sources.index
    steps = (op for op in index.of_kind(OpKind.STEP) if index.func(op) == f"{optimizer.name}.step")
    stepped = [set(index.uses.of(op)) for op in steps if op > optimizer.made.op]
    return any(one and one <= optimizer.tensors and one.isdisjoint(adapters.tensors) for one in stepped)


def _finding(sources: Sources, optimizer: Optimizer, adapters: _Adapters, passes: list[int]) -> Finding:
    index, span = sources.index, _called_at(sources, optimizer, adapters.frozen)
    names = sources.listed([sources.names.at(one, passes[-1]) for one in adapters.tensors])
    line = index.span_line(span) if span >= 0 else index.op_line(adapters.frozen)
    return sources.finding(
        f"Line {line} freezes {names} as well, new layers that the {optimizer.name} was to train",
        why=f"they had been put into the model before, and none of the {index.times(passes):,} backward passes since "
        "gave them a gradient",
        op=passes[-1],
        tensors=adapters.tensors,
        causes=sources.cause_of_span("set", span) if span >= 0 else sources.cause("set", adapters.frozen),
        evidence=[Evidence("ops", adapters.frozen), Evidence("events", optimizer.made.row)],
        advice="Freeze the model first, and put the new layers in after that.",
    )


def _called_at(sources: Sources, optimizer: Optimizer, frozen: int) -> int:
    """The span at which the function that makes the optimizer calls what freezes; the freezing's own for none."""
    index, spans = sources.index, sources.index.recording.spans
    own = index.recording.ops.column("span")[frozen]
    function = spans[optimizer.made.span].function
    for event in sources.events.of(EventKind.FROZEN):
        way = event.detail.get("through")
        if event.span == own and isinstance(way, list):
            through = [one for one in way if isinstance(one, int) and 0 <= one < len(spans)]
            return next((one for one in through if spans[one].function == function), own)
    return own


DIAGNOSIS = Diagnosis(
    code="adapter-frozen",
    title="new layers are frozen with the model that they were put into",
    severity="warning",
    explanation=Explanation(
        meaning="""A function put new layers into a model, a later statement switched requires_grad off for all of the
            model, and an optimizer was given the new layers, which no pass gave a gradient, and others, which it
            steps.""",
        reason="""requires_grad_(False) of a module freezes all parameters that it has by then. An optimizer takes
            them and passes by what has no gradient, and nothing fails as long as something else is trained.""",
        remedy="""Freeze the model first and put the new layers in after that, or switch requires_grad of the new ones
            on again.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Adapter(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base, self.up = base, nn.Linear(3, 3, bias=False)
    def forward(self, x):
        return self.base(x) + self.up(x)

def put_in(model):
    model[0] = Adapter(model[0])
    return list(model[0].up.parameters())

model, head = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), nn.Linear(3, 1)
adapters = put_in(model)
model.requires_grad_(False)
optimizer = torch.optim.SGD([*adapters, *head.parameters()], lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    head(model(torch.rand(5, 3))).sum().backward()
    optimizer.step()
""",
        instead_of="model.requires_grad_(False)",
        silent="model[0].base.requires_grad_(False)",
    ),
    find=_find,
)
