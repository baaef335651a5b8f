"""Parameters that two models share, frozen through one of them and trained, as it was meant, by the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.memory_writes.mixed_with_themselves import mixed_into_itself
from gradscope.analysis.facts.modules.frozen_by_copy import frozen_by_copy
from gradscope.analysis.report_model import Evidence
from gradscope.frames.calls.shared_arguments import built_with, built_with_argument
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import EventKind

_ALONG = 4_096
"""Tensors that are frozen by one run of a statement."""


class _Shared(NamedTuple):
    """What one run of a statement froze."""

    span: int
    """Of the statement, or of that which called it for the model."""
    op: int
    held: list[int]
    """Those that an optimizer holds beside others, which it trains."""
    others: list[int]
    file: int
    lines: list[int]
    """Where the model was built with what the other one has as well."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    for op in sorted({last for tensor in sources.events.in_optimizers if (last := _frozen_at(sources, tensor)) >= 0}):
        found = _shared(sources, op)
        last_pass = max((group.last_op for group in sources.gradients.groups), default=-1)
        if found is None or last_pass < op:
            continue
        held, others = (sources.listed([sources.names.at(one, last_pass) for one in some]) for some in found[2:4])
        line, built = index.span_line(found.span), index.line(found.file, found.lines[0])
        optimizer = sources.events.in_optimizers[found.held[0]][0]
        trained = index.span_line(optimizer.span)
        by = f"the optimizer of line {trained}" if trained else "an optimizer"
        yield sources.finding(
            f"Line {line} switched requires_grad off for {others}, and for {held} as well, which {by} holds",
            why=f"line {built} built both with the same module, so that they share it, and it is not trained",
            op=op,
            tensors=[*found.held, *found.others],
            causes=[
                *(sources.cause_of_line("made", found.file, at, at, "") for at in found.lines),
                *sources.cause_of_span("set", found.span),
                *sources.cause("set", op),
            ],
            evidence=[Evidence("ops", op)],
            advice="Give one of them a copy (copy.deepcopy), or leave the shared part out when freezing.",
        )
    yield from _find_mixed(sources)
    yield from _find_copied(sources)


def _find_copied(sources: Sources) -> Iterator[Finding]:
    """What was frozen by the name of a shallow copy, and an optimizer has with what it trains."""
    index, holding = sources.index, sources.events.in_optimizers
    last_pass = max((group.last_op for group in sources.gradients.groups), default=-1)
    for copied in frozen_by_copy(index, sources.events):
        held = [one for one in copied.tensors if one in holding]
        beside = {one for tensor in held for event in holding[tensor] for one in event.tensors} - set(copied.tensors)
        if last_pass < copied.op or not any(index.requires_grad(one, index.op_count) for one in beside):
            continue
        line = index.span_line(holding[held[0]][0].span)
        by = f"the optimizer of line {line}" if line else "an optimizer"
        yield sources.finding(
            f"Line {index.op_line(copied.op)} switched requires_grad off by the name {copied.name}, and with that for "
            f"the {len(held)} parameter{'s' * (len(held) > 1)} of {copied.of}, which {by} holds",
            why=f"{copied.name} is a shallow copy of {copied.of} (line {index.span_line(copied.span)}), which has the "
            "same parameters, so that they are not trained",
            op=copied.op,
            tensors=held,
            causes=[*sources.cause_of_span("made", copied.span), *sources.cause("set", copied.op)],
            evidence=[Evidence("ops", copied.op)],
            advice="copy.deepcopy gives the copy parameters of its own.",
        )


def _find_mixed(sources: Sources) -> Iterator[Finding]:
    """Shared parameters that no optimizer got, as they were frozen, and that the program treats as two."""
    index, changes = sources.index, sources.index.recording.changes
    seen = set[int]()
    for event in sources.events.of(EventKind.FROZEN):
        first = _frozen_at_op(sources, event.subject)
        if index.op_statement[first] in seen:
            continue
        seen.add(index.op_statement[first])
        end = _end_of_run(sources, first)
        frozen = [
            tensor
            for tensor, rows in index.changed_ops.items()
            if first <= changes[rows[-1]].op < end and not changes[rows[-1]].after and changes[rows[-1]].before
        ]
        mixed = {one: mixed_into_itself(index, sources.sharing, one, frozen) for one in frozen}
        shared = [one for one, op in mixed.items() if op >= 0 and _is_left_out(sources, one, end)]
        others = [one for one, op in mixed.items() if op < 0]
        found = _built(sources, first, built_with_argument) if shared and others else None
        if found is not None:
            yield _mixed(sources, first, found, shared, others, mixed[shared[0]])


def _is_left_out(sources: Sources, tensor: int, since: int) -> bool:
    """Whether a tensor is used with gradients on since it was frozen, and was never trained."""
    index, flags = sources.index, sources.index.recording.ops.column("flags")
    is_used = any(op >= since and flags[op] & GRAD and index.tensors_made(op) for op in index.users.of(tensor))
    return is_used and tensor not in sources.events.in_optimizers and tensor not in sources.lives.steps


def _mixed(
    sources: Sources, op: int, found: tuple[int, int, list[int]], shared: list[int], others: list[int], mixed: int
) -> Finding:
    index, (span, file, lines) = sources.index, found
    held, rest = (sources.listed([sources.names.of(one) for one in some]) for some in (shared, others))
    line, built = index.span_line(span), index.line(file, lines[0])
    return sources.finding(
        f"Line {built} builds with a module that another model has as well",
        why=f"the two share {held}, and line {line}, which switched requires_grad off for {rest}, did so for that too: "
        f"nothing trains it, and {index.call_name(mixed)} writes it from itself",
        op=mixed,
        tensors=[*shared, *others],
        causes=[
            *(sources.cause_of_line("made", file, at, at, "") for at in lines),
            *sources.cause_of_span("set", span),
            *sources.cause("set", op),
        ],
        evidence=[Evidence("ops", op)],
        advice="Give one of them a copy: copy.deepcopy.",
    )


def _frozen_at_op(sources: Sources, op: int) -> int:
    """The first op of the run of a statement, by one of its ops."""
    index, first = sources.index, op
    while first and op - first < _ALONG and index.op_statement[first - 1] == index.op_statement[op]:
        first -= 1
    return first


def _end_of_run(sources: Sources, first: int) -> int:
    index, end = sources.index, first
    while end < index.op_count and index.op_statement[end] == index.op_statement[first] and end - first < _ALONG:
        end += 1
    return end


def _frozen_at(sources: Sources, tensor: int) -> int:
    """The first op of the run of a statement that froze a tensor for good; -1 where none did."""
    index = sources.index
    rows = index.changed_ops.get(tensor, [])
    last = index.recording.changes[rows[-1]] if rows else None
    if last is None or last.after or not last.before:
        return -1
    return _frozen_at_op(sources, last.op)


def _shared(sources: Sources, first: int) -> _Shared | None:
    """What the run of a statement that begins at an op froze, where it is two models'."""
    index, holding = sources.index, sources.events.in_optimizers
    end = _end_of_run(sources, first)
    changes = index.recording.changes
    frozen = [
        tensor
        for tensor, rows in index.changed_ops.items()
        if first <= changes[rows[-1]].op < end and not changes[rows[-1]].after
    ]
    held, others = [one for one in frozen if one in holding], [one for one in frozen if one not in holding]
    beside = {one for tensor in held for event in holding[tensor] for one in event.tensors} - set(frozen)
    is_trained = any(index.requires_grad(one, index.op_count) for one in beside)
    is_run = any(op >= end for one in others for op in index.users.of(one))
    if not held or not others or not is_trained or not is_run:
        return None
    made = index.recording.tensors.column("op")[held[0]]
    place = index.statements[index.op_statement[made]] if 0 <= made < index.op_count else None
    if place is None or place.file < 0:
        return None
    found = _built(sources, first, lambda text, at: built_with(text, index.op_line(made), at))
    return _Shared(found[0], first, held, others, *found[1:]) if found and found[1] == place.file else None


def _built(
    sources: Sources, op: int, lines_in: Callable[[str, tuple[int, int, int, int]], list[int]]
) -> tuple[int, int, list[int]] | None:
    """On the way to an op, the first span whose lines that build a text shows: span, file, lines."""
    index = sources.index
    for span in _ways(sources, index.recording.ops.column("span")[op]):
        row = index.recording.spans[span]
        columns = (row.line, row.col, row.end_line, row.end_col)
        lines = lines_in(index.recording.files[row.file].text, columns) if row.file >= 0 else []
        if lines:
            return span, row.file, lines
    return None


def _ways(sources: Sources, span: int) -> list[int]:
    """A span, and those of the functions around, on all ways that were seen."""
    found = [span] if span >= 0 else []
    for event in sources.events.of(EventKind.FROZEN):
        way, count = event.detail.get("through"), len(sources.index.recording.spans)
        if event.span == span and isinstance(way, list):
            found += [one for one in way if isinstance(one, int) and 0 <= one < count and one not in found]
    return found


DIAGNOSIS = Diagnosis(
    code="frozen-with-another",
    title="a shared part that was frozen through the other model",
    severity="warning",
    explanation=Explanation(
        meaning="""Two models were built with one and the same module, or one is a shallow copy of the other. Freezing
            one of them switched requires_grad off for the shared parameters too, which an optimizer holds beside others
            of the other model, or which the program averages with themselves as if there were two of them.""",
        reason="""A module that is handed to two models is one module: requires_grad belongs to its parameters, by
            whatever name they are reached. An optimizer skips parameters without a gradient, and nothing fails.""",
        remedy="""Give the model that is to be frozen a copy of the shared part, or freeze what is its own alone. Where
            the shared part is to stay as it is, leave it out of the optimizer.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

table = nn.Linear(3, 3)
student = nn.Sequential(table, nn.Linear(3, 2))
teacher = nn.Sequential(table, nn.Tanh(), nn.Linear(3, 2))
teacher.requires_grad_(False)
optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
for step in range(2):
    x = torch.rand(4, 3)
    optimizer.zero_grad()
    (student(x) - teacher(x)).pow(2).mean().backward()
    optimizer.step()
""",
        instead_of="teacher.requires_grad_(False)",
        silent="teacher[2].requires_grad_(False)",
    ),
    find=_find,
)
