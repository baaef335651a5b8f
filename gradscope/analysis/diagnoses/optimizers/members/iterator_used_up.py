"""Loops that run zero times, since an optimizer, or the same loop before, has used up the iterator."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import Evidence, Place
from gradscope.frames.names.iterated_twice import IteratedTwice, Region, iterated_twice
from gradscope.frames.names.used_up_iterators import (
    Again,
    Once,
    gone_through_in_loops,
    gone_through_once,
    iterated_again,
)
from gradscope.recording import NONE

PASSES = 3
"""Passes from one line without what the first one had, from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    yield from _find_given(sources)
    yield from _find_once(sources)
    yield from _find_in_loops(sources)
    yield from _find_twice(sources)


def _find_once(sources: Sources) -> Iterator[Finding]:
    """Functions that did something for the first of many passes only, and go through an iterator for it."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        for once in gone_through_once(file.text) if file.is_user else ():
            ops = [
                op
                for statement, op in index.last_op.items()
                if index.statements[statement].file == number
                and once.line <= index.statements[statement].line <= once.end_line
            ]
            passes = _passes_from(sources, max(ops, default=NONE))
            if len(passes) > PASSES:
                yield _gone_through_once(sources, number, once, passes)


def _find_in_loops(sources: Sources) -> Iterator[Finding]:
    """Statements of a loop that did something in its first round only, with passes in all of them."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        for once, region, loop in gone_through_in_loops(file.text) if file.is_user else ():
            done = _last_op_in(sources, number, region)
            rounds = [one for one in index.roots if _is_in(index, one, number, loop)]
            passes = [one for one in rounds if one > done]
            # More than one before it are those of an earlier call: of what is then gone through, nothing is known.
            if done >= 0 and len(passes) > PASSES and len(rounds) - len(passes) <= 1:
                yield _gone_through_once(sources, number, once, rounds)


def _is_in(index: Index, op: int, file: int, lines: tuple[int, int]) -> bool:
    statement = index.op_statement[op]
    return statement >= 0 and index.statements[statement].file == file and lines[0] <= index.op_line(op) <= lines[1]


def _find_twice(sources: Sources) -> Iterator[Finding]:
    """Iterators of which one place did something with each item, so that the next place found none."""
    index = sources.index
    for number, file in enumerate(index.recording.files):
        for twice in iterated_twice(file.text) if file.is_user else ():
            done = _last_op_in(sources, number, twice.done)
            if done >= 0 and _last_op_in(sources, number, twice.undone) < 0:
                yield _iterated_twice(sources, number, twice, done)


def _last_op_in(sources: Sources, file: int, region: Region) -> int:
    """The last op that took a tensor and was called from a region of a file; where columns are unknown, its lines."""
    index, last = sources.index, NONE
    spans, ops = index.recording.spans, index.recording.ops.column("span")
    begins, ends = region[:2], region[2:]
    inside = {
        row
        for row, span in enumerate(spans)
        if span.file == file
        and (begins[0] <= span.line <= ends[0])
        and (span.col < 0 or (begins <= (span.line, span.col) and (span.end_line, span.end_col) <= ends))
    }
    for op, span in enumerate(ops if inside else ()):
        if span in inside and index.uses.of(op):
            last = op
    return last


def _iterated_twice(sources: Sources, file: int, twice: IteratedTwice, op: int) -> Finding:
    made = sources.cause_of_line("made", file, *twice.made, "")
    first = sources.cause_of_line("used", file, *twice.first, "")
    again = sources.index.line(file, twice.again[0])
    if twice.function:
        symptom = f"Line {made.line}: {twice.function} is given {twice.source}, an iterator"
        why = f"line {first.line} goes through it, and line {again}, which does so again, finds nothing left"
        advice = f"Give it {f'[{twice.source[1:-1]}]' if twice.source[0] == '(' else f'list({twice.source})'}."
    else:
        symptom = f"Line {again}: nothing is done for what is in {twice.name}"
        why = f"line {made.line} makes it an iterator, and line {first.line} has used it up"
        advice = f"Make {twice.name} a list there."
    return sources.finding(
        symptom,
        why=why,
        op=op,
        tensors=list(sources.index.uses.of(op))[:1],
        causes=[made, first],
        evidence=[Evidence("ops", op)],
        advice=advice,
    )


def _passes_from(sources: Sources, op: int) -> list[int]:
    """The passes of one line, the first of which went through a node of an op that was not run again for the others."""
    index = sources.index
    after = [one for one in index.roots if one > op] if op >= 0 else []
    if not after or index.op_statement[after[0]] < 0:
        return []
    made = index.recording.nodes.column("op")
    is_in_it = any(made[node] == op for root in index.root_nodes(after[0]) for node in sources.passes.behind(root))
    return [one for one in after if index.op_statement[one] == index.op_statement[after[0]]] if is_in_it else []


def _gone_through_once(sources: Sources, file: int, once: Once, passes: list[int]) -> Finding:
    index = sources.index
    cause = sources.cause_of_line("made", file, *once.made, "")
    here = sources.cause_of_line("used", file, once.line, once.end_line, "")
    return sources.finding(
        f"Line {here.line} went through {once.name} once, for the first of {index.times(passes):,} backward passes "
        f"(line {index.op_line(passes[0])})",
        why=f"line {cause.line} makes it an iterator, which has nothing left after that",
        op=passes[-1],
        tensors=[],
        causes=[cause, here],
        evidence=[Evidence("ops", op) for op in passes[:2]],
        advice=f"Make {once.name} a list there.",
    )


def _find_given(sources: Sources) -> Iterator[Finding]:
    """Iterators that an optimizer was given before a loop goes through them."""
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
    title="a loop over an iterator that was used up before",
    severity="warning",
    explanation=Explanation(
        meaning="""A name stands for an iterator over parameters (parameters(), itertools.chain, filter, a generator
            expression). An optimizer was given it, and a loop or a clipping function goes through it later; nothing
            was done there. Or a function that a loop calls goes through it in each call, and found items in the first
            only.""",
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
