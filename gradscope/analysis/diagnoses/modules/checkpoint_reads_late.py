"""Activation checkpointing in a loop, of functions that read a variable of the loop: backward finds its last value."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.late_loop_variables import LateVariable, late_variables
from gradscope.recording.rows import EventKind

_KINDS = (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each call of checkpoint that ran several times for one backward pass."""
    runs: dict[tuple[int, LateVariable], list[Happened]] = {}
    for event in (one for kind in _KINDS for one in sources.events.of(kind)):
        is_first = event.detail.get("begins") and event.detail.get("tracks", True)
        late = _late(sources, event) if is_first and event.span >= 0 else None
        if late is not None:
            runs.setdefault((event.span, late), []).append(event)
    passes = sorted(sources.gradients.roots)
    for (span, late), events in runs.items():
        together = [
            (first, following)
            for first, second in pairwise(events)
            if (following := next((op for op in passes if op >= second.op), -1)) >= 0
            and not any(first.op <= op < second.op for op in passes)
        ]
        if together:
            yield _finding(sources, span, late, *together[-1])


def _late(sources: Sources, event: Happened) -> LateVariable | None:
    """What of a run is looked up late: it is checkpointed at its line, or handed on from one of those that called."""
    row, called = sources.index.recording.spans[event.span], event.detail.get("called")
    known = late_variables(sources.index.recording.files[row.file].text) if row.file >= 0 else ()
    above = [one for one in called if type(one) is int] if isinstance(called, list) else []
    return next(
        (
            one
            for one in known
            if any(one.line <= line <= one.end_line for line in (above if one.is_handed_on else [row.line]))
        ),
        None,
    )


def _finding(sources: Sources, span: int, late: LateVariable, first: Happened, following: int) -> Finding:
    symptom = f"Line {sources.index.span_line(span)}: what is checkpointed there reads"
    causes = sources.cause_of_span("used", span)
    if late.is_handed_on:
        file = sources.index.recording.spans[span].file
        causes = [sources.cause_of_line("used", file, late.line, late.end_line, late.function)]
        symptom = f"Line {causes[0].line}: what is handed on to checkpoint there reads"
    advice = f"Bind it as a default: {late.name}={late.name}."
    if not late.is_handed_on:
        advice = f"Hand it over: checkpoint({late.name}, …), or bind it as a default ({late.name}={late.name})."
    return sources.finding(
        f"{symptom} {late.name}, a variable of the loop, when it runs",
        why=f"backward runs it again for each iteration, after the loop, and all find the last {late.name}: the "
        "gradients are not those of what was computed",
        op=following,
        tensors=[],
        causes=causes,
        evidence=[Evidence("events", first.row)],
        advice=advice,
    )


DIAGNOSIS = Diagnosis(
    code="checkpoint-reads-late",
    title="a checkpointed function reads a variable of the loop that it is made in",
    severity="problem",
    explanation=Explanation(
        meaning="""A lambda, or a function made in a loop, was run under torch.utils.checkpoint in each iteration, and
            reads a variable of the loop. The backward pass came when the loop was over.""",
        reason="""Python looks a variable up when a function runs. Backward runs each of the functions a second time,
            to have the activations again: by then the variable has its last value, and all of them compute with the
            last layer. Nothing fails where the shapes are the same.""",
        remedy="""checkpoint(block, x), with what changes as an argument; or bind it when the function is made:
            lambda h, block=block: block(h).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

blocks = nn.ModuleList([nn.Linear(3, 3) for _ in range(3)])
h = torch.rand(4, 3)
for block in blocks:
    h = checkpoint(lambda x: block(x).tanh(), h, use_reentrant=False)
h.sum().backward()
""",
        instead_of="h = checkpoint(lambda x: block(x).tanh(), h, use_reentrant=False)",
        silent="h = checkpoint(lambda x, block=block: block(x).tanh(), h, use_reentrant=False)",
    ),
    find=_find,
)
