"""Every pass before a step ran under ``no_sync``: each process stepped by the gradients of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.ranks.collectives import is_of_numbers
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.blocks.with_statements import with_around
from gradscope.recording.flags import COLLECTIVE_OP
from gradscope.recording.rows import EventKind

STEPS = 2
"""Steps by gradients of one process alone from which on it is reported."""
_WRITES_NOTHING = ("dist.send", "dist.isend")


def _find(sources: Sources) -> Iterator[Finding]:
    """Silent where the program itself lets the processes exchange tensors: it may average what it likes to."""
    index = sources.index
    modules: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.DDP_FORWARD):
        modules.setdefault(event.subject, []).append(event)
    for events in modules.values():
        if all(event.detail.get("averages") for event in events) or _exchanges(sources, events[0].op):
            continue
        alone = [op for op, averaged in _steps(sources, events) if not averaged]
        steps = sum(1 for _ in _steps(sources, events))
        if len(alone) < STEPS or len(alone) < steps:
            continue
        last = next(event for event in reversed(events) if not event.detail.get("averages") and event.op <= alone[-1])
        causes = _causes(sources, last)
        line = causes[0].line if causes else index.op_line(alone[-1])
        yield sources.finding(
            f"Line {line}: every pass before each of {index.times(alone):,} optimizer steps ran under no_sync",
            why="so their gradients were not averaged over the processes, and each trains a model of its own",
            op=alone[-1],
            tensors=events[0].tensors[:1],
            causes=causes,
            evidence=[Evidence("events", event.row) for event in events[:1]],
            advice="Let the last forward and backward before each step run outside no_sync.",
        )


def _exchanges(sources: Sources, since: int) -> bool:
    index = sources.index
    kinds = index.recording.ops.column("kind")
    called = (op for op in range(since, index.op_count) if kinds[op] == COLLECTIVE_OP)
    return any(index.func(op) not in _WRITES_NOTHING and not is_of_numbers(index, op) for op in called)


def _steps(sources: Sources, events: list[Happened]) -> Iterator[tuple[int, bool]]:
    """The steps that wrote a module's parameter after passes gave it gradients; whether one of these averaged them."""
    lives, begins = sources.lives, [event.op for event in events]
    end = events[-1].op if events[-1].detail.get("is_last") else sources.index.op_count
    parameter = next((one for one in events[0].tensors if lives.passes.get(one) and lives.steps.get(one)), None)
    if parameter is None:
        return
    before = begins[0]
    for step in lives.steps[parameter]:
        passes = [op for op in lives.passes[parameter] if before <= op < step]
        if passes and step < end:
            yield step, any(events[bisect_right(begins, op) - 1].detail.get("averages") for op in passes)
        before = max(before, step)


def _causes(sources: Sources, event: Happened) -> list[Cause]:
    """The ``with`` statement where the source shows it, else the forward in it."""
    index, causes = sources.index, sources.cause_of_event("used", event)
    if event.span >= 0:
        span = index.recording.spans[event.span]
        line = with_around(index.recording.files[span.file].text, span.line, "no_sync")
        if line:
            return [sources.cause_of_line("set", span.file, line, line, index.recording.text(span.function))]
    return causes


DIAGNOSIS = Diagnosis(
    code="ddp-not-averaged",
    title="no pass of a DistributedDataParallel averages its gradients",
    severity="warning",
    explanation=Explanation(
        meaning="""All passes of a DistributedDataParallel between one step of the optimizer and the next ran under
            no_sync, so the step was made by the gradients of this process alone.""",
        reason="""no_sync leaves the averaging to the first pass outside it. Where there is none before the step,
            nothing raises: each process goes its own way, and the models part.""",
        remedy="""Accumulate under no_sync, and let the last forward and backward before each step run outside. What a
            program averages itself (torch.distributed.all_reduce, a model averager) is not reported.""",
    ),
    example=Example(
        shows="""\
import contextlib
import torch
import torch.distributed as dist
from torch import nn

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(6):
    is_last = step % 2 == 2
    with contextlib.nullcontext() if is_last else model.no_sync():
        model(torch.ones(1, 2)).sum().backward()
    if step % 2 == 1:
        optimizer.step()
        optimizer.zero_grad()
del model, optimizer
dist.destroy_process_group()
""",
        instead_of="is_last = step % 2 == 2",
        silent="is_last = step % 2 == 1",
    ),
    find=_find,
)
