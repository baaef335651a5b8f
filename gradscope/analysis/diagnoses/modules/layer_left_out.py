"""A layer that an optimizer holds and that the program never uses, or whose result no loss is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.leaf_gradients.results_in_no_loss import ResultsInNoLoss, UnusedResult
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.frames.without_effect.unused_names import given_twice, unread_attribute, unread_name
from gradscope.recording.flags import PARAMETER

_USE_IT = "Use it in the loss: what is evaluated with it is as it was initialized."
PASSES = 3
"""Passes that gave its optimizer's other parameters gradients from which on it is reported."""


class _Found(NamedTuple):
    """What is wrong with a layer."""

    op: int
    """At whose line it is made or used."""
    text: str
    advice: str = "Use it in forward, or take it out."


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for the parameters that one statement made, or that one used in vain."""
    index, lives = sources.index, sources.lives
    flags, results = index.recording.tensors.column("flags"), ResultsInNoLoss(index, lives)
    alike: dict[_Found, list[int]] = {}
    last = 0
    for optimizer in seen_optimizers(index, sources.events):
        passes = sorted({op for tensor in optimizer.tensors for op in lives.passes.get(tensor, ())})
        if len(passes) < PASSES or not any(tensor in lives.steps for tensor in optimizer.tensors):
            continue
        for tensor in sorted(optimizer.tensors):
            if tensor in lives.passes or not flags[tensor] & PARAMETER:
                continue
            last = passes[-1]
            if index.requires_grad(tensor, last) and (
                found := _left_out(sources, tensor, last) or _in_no_loss(sources, results.of(tensor, passes))
            ):
                alike.setdefault(found, []).append(tensor)
    by_statement: dict[tuple[int, str], tuple[_Found, list[int]]] = {}
    for found, tensors in alike.items():
        by_statement.setdefault((index.op_statement[found.op], found.text), (found, []))[1].extend(tensors)
    for found, tensors in by_statement.values():
        yield _finding(sources, found, last, tensors)


def _left_out(sources: Sources, tensor: int, before: int) -> _Found | None:
    """What is wrong with a layer by the text of the program."""
    index = sources.index
    made, uses = index.made_by(tensor), sources.flow.computed_with(tensor, before)
    at = uses[-1] if uses else made
    statement = index.statements[index.op_statement[at]] if 0 <= at < index.op_count else index.statements[0]
    if statement.file < 0 or not index.recording.files[statement.file].is_user:
        return None
    text, line = index.recording.files[statement.file].text, index.op_line(at)
    if uses:
        name = unread_name(text, line)
        return _Found(at, f"line {line} gives {name} what it computes, and nothing reads {name}") if name else None
    texts = [file.text for file in index.recording.files if file.is_user]
    is_init = index.op_place(at).function.endswith("__init__")
    attribute = unread_attribute(text, line, texts) if is_init else ""
    why = f"line {line} makes self.{attribute}, and nothing in the files that ran reads it"
    return _Found(at, why) if attribute else None


def _in_no_loss(sources: Sources, found: UnusedResult | None) -> _Found | None:
    """That a layer's result has a name, and that no call of the training took it."""
    if found is None or not sources.index.op_line(found.op):
        return None
    times = sources.index.times(found.passes)
    text = f"no call took {found.name}, which is made of them here, in any of {times:,} passes, and no loss has it"
    return _Found(found.op, text, _USE_IT)


def _finding(sources: Sources, found: _Found, last: int, tensors: list[int]) -> Finding:
    op, text, advice = found
    names = sources.listed([sources.names.of(tensor) for tensor in tensors])
    held = "it" if len(tensors) == 1 else "them"
    where = sources.index.statements[sources.index.op_statement[op]]
    causes = sources.cause("made", op)
    is_unread = op != sources.index.made_by(tensors[0]) and advice != _USE_IT
    twice = given_twice(sources.index.recording.files[where.file].text, where.end_line) if is_unread else None
    if twice is not None:
        place = sources.cause_of_line(
            "used", where.file, twice.line, twice.end_line, sources.index.op_place(op).function
        )
        causes = [place, *causes]
        text = f"{text}; line {sources.index.line(where.file, twice.line)} gives {twice.name} twice ({twice.source})"
        advice = "If one of the two was meant to be the other, give it that one."
    return sources.finding(
        f"Line {sources.index.op_line(op)}: {names} never got a gradient, though an optimizer holds {held}",
        why=text,
        op=op,
        tensors=tensors,
        causes=causes,
        evidence=[Evidence("ops", last)],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="layer-left-out",
    title="a layer that an optimizer holds is never used",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer holds parameters of a layer that got no gradient in the whole run, and by the text of
            the files that ran the layer is read nowhere, or its result is given a name that nothing reads. Or every
            backward pass went without its result, which has a name that nothing of the training used, and the program
            evaluates with the layer.""",
        reason="""A layer that __init__ makes is part of the model whether forward calls it or not. Often another name
            was meant: bn1 twice instead of bn2, h instead of z, a loss that is given the target for both of its
            arguments.""",
        remedy="""Let forward use it, or its result. A layer that is not needed costs memory and makes
            DistributedDataParallel fail: take it out.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(3, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        h = self.body(x)
        z = self.norm(h)
        return self.head(h)

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for step in range(4):
    optimizer.zero_grad()
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
""",
        instead_of="z = self.norm(h)",
        silent="h = self.norm(h)",
    ),
    find=_find,
)
