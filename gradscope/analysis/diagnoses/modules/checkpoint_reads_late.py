"""Activation checkpointing in a loop, of functions that read a variable of the loop: backward finds its last value."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.report_model import Evidence
from gradscope.frames.called_by_torch.late_loop_variables import late_variables
from gradscope.recording.rows import EventKind

_KINDS = (EventKind.CHECKPOINT, EventKind.REENTRANT_CHECKPOINT)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each call of checkpoint that ran several times for one backward pass."""
    index, runs = sources.index, dict[int, list[Happened]]()
    for event in (one for kind in _KINDS for one in sources.events.of(kind)):
        if event.detail.get("begins") and event.span >= 0:
            runs.setdefault(event.span, []).append(event)
    passes = sorted(sources.gradients.roots)
    for span, events in runs.items():
        row = index.recording.spans[span]
        known = late_variables(index.recording.files[row.file].text) if row.file >= 0 else ()
        late = next((one for one in known if one.line <= row.line <= one.end_line), None)
        together = [
            (first, following)
            for first, second in pairwise(events)
            if (following := next((op for op in passes if op >= second.op), -1)) >= 0
            and not any(first.op <= op < second.op for op in passes)
        ]
        if late is None or not together:
            continue
        first, following = together[-1]
        yield sources.finding(
            f"Line {index.span_line(span)}: what is checkpointed there reads {late.name}, a variable of the loop, when "
            "it runs",
            why=f"backward runs it again for each iteration, after the loop, and all find the last {late.name}: the "
            "gradients are not those of what was computed",
            op=following,
            tensors=[],
            causes=sources.cause_of_span("used", span),
            evidence=[Evidence("events", first.row)],
            advice=f"Hand it over: checkpoint({late.name}, …), or bind it as a default ({late.name}={late.name}).",
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
