"""Loops over parameters that run zero times, since an optimizer has used up the iterator."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Evidence, Place
from gradscope.frames.used_up_iterators import Again, iterated_again
from gradscope.recording import NONE


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    said: set[tuple[int, str]] = set()
    for optimizer in seen_optimizers(index, sources.events):
        span = index.recording.spans[optimizer.made.span]
        file = index.recording.files[span.file]
        if not file.is_user or not optimizer.tensors:
            continue
        for again in iterated_again(file.text, span.line):
            key = (span.file, again.name)
            ops = _ops_beside(sources, span.file, again, optimizer.made.op)
            if key not in said and ops != NONE:
                said.add(key)
                yield _finding(sources, optimizer, span.file, again, ops)


def _ops_beside(sources: Sources, file: int, again: Again, since: int) -> int:
    """The last op of a statement beside it after the optimizer was made; NONE too where its own body made one."""
    index, last = sources.index, NONE
    clips = index.calls_of(lambda name: name.startswith("nn.utils.clip_grad"))
    clipped = {index.op_statement[op] for op in clips if index.uses.of(op)}
    for statement, op in index.last_op.items():
        where = index.statements[statement]
        if where.file != file:
            continue
        if again.body[0] <= where.line <= again.body[1]:
            if again.is_loop or statement in clipped:
                return NONE
            last = max(last, op)  # clipping nothing makes a norm of nothing
        if op >= since and any(first <= where.line <= end for first, end in again.beside):
            last = max(last, op)
    return last


def _finding(sources: Sources, optimizer: Optimizer, file: int, again: Again, op: int) -> Finding:
    recording = sources.index.recording
    name = recording.files[file].name
    function = recording.text(recording.spans[optimizer.made.span].function)
    first, last = again.made
    cause = sources.cause_of_line("made", file, first, last, function)
    finding = sources.finding(
        f"Line {sources.index.line(file, again.line)}: nothing is done for the parameters in {again.name}",
        why=f"line {cause.line} makes it an iterator, and the {optimizer.name} that was given it has used it up",
        op=op,
        tensors=list(optimizer.made.tensors),
        causes=[cause],
        evidence=[Evidence("events", optimizer.made.row)],
        advice=f"Make {again.name} a list there.",
    )
    source = recording.source(file, again.line, again.end_line)
    return finding._replace(place=Place(name, again.line, again.end_line, sources.index.op_place(op).function, source))


DIAGNOSIS = Diagnosis(
    code="iterator-used-up",
    title="a loop over parameters that an optimizer has used up",
    severity="warning",
    explanation=Explanation(
        meaning="""A name stands for an iterator over parameters (parameters(), itertools.chain, filter, a generator
            expression). An optimizer was given it, and a loop or a clipping function goes through it later; nothing
            was done there.""",
        reason="""An iterator can be gone through once. The optimizer makes a list of its own from it; who comes
            later finds nothing, and Python raises no error.""",
        remedy="""Keep a list: params = list(model.parameters()). Or ask the model for its parameters at each
            place.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(4, 1)
params = layer.parameters()
optimizer = torch.optim.SGD(params, lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    layer(torch.ones(2, 4)).sum().backward()
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    optimizer.step()
""",
        instead_of="params = layer.parameters()",
        silent="params = list(layer.parameters())",
    ),
    find=_find,
)
