"""Schedulers that are stepped for each batch, and made for as many steps as there are epochs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers, steps_of
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.recording.rows import EventKind

_SMALL = 0.01
"""The part of the first rate that is next to nothing for what is most of a training."""
_LONGER = 4
"""How many times as many steps as it was made for follow."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each scheduler whose steps were over while most of the training was to come."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer = optimizers.get(event.subject)
        if event.detail.get("call") != "over" or optimizer is None or event.span < 0:
            continue
        steps = steps_of(sources.index, optimizer)
        before = bisect_left(steps, event.op)
        if before and _is_over(event, before, len(steps)) and _is_in_inner_loop(sources, event):
            yield _finding(sources, optimizer, event, before, len(steps))


def _is_over(event: Happened, before: int, steps: int) -> bool:
    """Whether most of a training was to come with next to no rate, or with one that goes up and down."""
    if event.detail.get("scheduler") == "CosineAnnealingLR":
        return True
    rates, first = _rates(event), event.detail.get("first")
    if not rates or not isinstance(first, (int, float)) or first <= 0:
        return False
    return round(max(rates) / first, 6) <= _SMALL and steps - before >= _LONGER * before


def _rates(event: Happened) -> list[float]:
    return [float(rate) for rate in event.detail.get("rates") or () if isinstance(rate, (int, float))]


def _is_in_inner_loop(sources: Sources, event: Happened) -> bool:
    """Whether the call stands in a loop that another one goes through again and again: batches of an epoch."""
    span = sources.index.recording.spans[event.span]
    text = sources.index.recording.files[span.file].text if span.file >= 0 else ""
    loops = loops_around(text, span.line)
    name = sources.index.recording.text(span.function).rpartition(".")[2]
    called = calls_of(text, name) if name.isidentifier() else []
    return len(loops) > 1 or (bool(loops) and any(loops_around(text, one.line) for one in called))


def _finding(sources: Sources, optimizer: Optimizer, event: Happened, before: int, steps: int) -> Finding:
    line, name, length = sources.index.span_line(event.span), event.detail.get("scheduler"), event.detail.get("of")
    rate, first = max(_rates(event)), event.detail.get("first")
    if name == "CosineAnnealingLR":
        what = f"its rate goes down and up again every {2 * int(length or 0):,} of {steps:,} steps of {optimizer.name}"
    else:
        left = f"{steps - before:,} of {steps:,} steps of {optimizer.name}"
        what = f"{left} have a rate of {rate:.2g} ({first:.2g} at first)"
    return sources.finding(
        f"Line {line}: {name} was made for {length:,} steps, and is stepped in the inner of two loops, once a batch: "
        f"{what}",
        op=min(event.op, sources.index.op_count - 1),
        tensors=[],
        causes=sources.cause_of_event("step", event),
        evidence=[Evidence("events", event.row)],
        advice="Step it once an epoch, behind the inner loop; or give it numbers of batches.",
    )


DIAGNOSIS = Diagnosis(
    code="scheduler-per-batch",
    title="a scheduler that counts epochs and is stepped for each batch",
    severity="warning",
    explanation=Explanation(
        meaning="""The scheduler's last milestone, or the end of its cosine, is a small number of steps. Its step()
            stands in the inner of two loops and runs once a batch: that number was reached while most of the training
            was to come, which went on with a hundredth of the rate or less, or with a rate that goes up and down.""",
        reason="""A scheduler counts calls of step(), whatever they stand for. Milestones and T_max that are meant in
            epochs are gone through within the first epochs.""",
        remedy="""scheduler.step() once an epoch, behind the loop over batches. Or milestones and T_max in batches:
            epochs * len(loader).""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.1)
for epoch in range(6):
    for batch in torch.ones(6, 2, 4):
        optimizer.zero_grad()
        layer(batch).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()
""",
        instead_of="scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5], gamma=0.1)",
        silent="scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [18, 30], gamma=0.1)",
    ),
    find=_find,
)
