"""Schedulers that are stepped for each batch, and made for as many steps as there are epochs, or for a part of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers, steps_of, steps_until_made_anew
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.calls.calls_of_functions import calls_of
from gradscope.frames.calls.counts_around import CountAround, count_around
from gradscope.recording.rows import EventKind

_SMALL = 0.01
"""The part of the first rate that is next to nothing for what is most of a training."""
_LONGER = 4
"""How many times as many steps as it was made for follow."""
_SEVERAL = 2
"""Batches of an epoch from which on a scheduler that counts epochs is told of."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each scheduler whose steps were over while most of the training was to come.

    And for each that counts rounds of the loop around by what it is made of, whatever the rates came to.
    """
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    counted = {(one.stepped.subject, one.scheduler): one for one in counted_by_epoch(sources)}
    for key, one in counted.items():
        yield _of_counted(sources, optimizers[key[0]], one)
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer = optimizers.get(event.subject)
        if (event.subject, event.detail.get("scheduler")) in counted:
            continue
        if event.detail.get("call") != "over" or optimizer is None or event.span < 0:
            continue
        steps = steps_of(sources.index, optimizer)
        before = bisect_left(steps, event.op)
        if before and _is_over(event, before, len(steps)) and is_in_inner_loop(sources, event):
            yield _finding(sources, optimizer, event, before, len(steps))


class CountedByEpoch(NamedTuple):
    """A scheduler that is stepped for each batch, and whose number of steps is made of how many epochs there are."""

    scheduler: str
    made: Happened
    stepped: Happened
    """Its first step."""
    counts: CountAround
    of: int
    steps: int
    """Those of its optimizer since it was made."""


def counted_by_epoch(sources: Sources) -> Iterator[CountedByEpoch]:
    """All of them: of an optimizer that had one scheduler of the class, which it stepped after its own first step."""
    events = sources.events.of(EventKind.LEARNING_RATE)
    made = [event for event in events if event.detail.get("call") == "made"]
    if not any(event.detail.get("of") for event in made):
        return
    times = Counter((event.subject, event.detail.get("scheduler")) for event in made)
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    for stepped in events:
        key = stepped.subject, stepped.detail.get("scheduler")
        if stepped.detail.get("call") != "first" or times[key] != 1 or stepped.subject not in optimizers:
            continue
        (own,) = (event for event in made if (event.subject, event.detail.get("scheduler")) == key)
        counted, of = _count(sources, own, stepped), own.detail.get("of")
        if counted is None or not isinstance(of, int):
            continue
        optimizer = optimizers[stepped.subject]
        all_steps = steps_until_made_anew(sources.index, optimizer, optimizers.values())
        steps = [op for op in all_steps if op >= own.op]
        number = sources.index.times(steps)
        if bisect_left(steps, stepped.op) == 1 and number >= _SEVERAL * (of + 1) / counted.part:
            yield CountedByEpoch(str(key[1]), own, stepped, counted, of, number)


def _count(sources: Sources, made: Happened, stepped: Happened) -> CountAround | None:
    recording = sources.index.recording
    if made.span < 0 or stepped.span < 0:
        return None
    of, at = recording.spans[made.span], recording.spans[stepped.span]
    if of.file < 0 or of.file != at.file:
        return None
    return count_around(recording.files[of.file].text, of.line, at.line, str(made.detail.get("scheduler")))


def _of_counted(sources: Sources, optimizer: Optimizer, one: CountedByEpoch) -> Finding:
    line, made, file = (
        sources.index.span_line(one.stepped.span),
        sources.index.span_line(one.made.span),
        sources.index.recording.spans[one.made.span].file,
    )
    around = sources.index.line(file, one.counts.line)
    return sources.finding(
        f"Line {line}: {one.scheduler} is stepped in the inner of two loops, once a batch, and line {made} makes it "
        f"with {one.counts.source}, in rounds of the outer one (line {around}): these {one.of:,} are over after "
        f"{one.of:,} of {one.steps:,} steps of {optimizer.name}",
        op=min(one.stepped.op, sources.index.op_count - 1),
        tensors=[],
        causes=[*sources.cause_of_event("step", one.stepped), *sources.cause_of_event("made", one.made)],
        evidence=[Evidence("events", event.row) for event in (one.made, one.stepped)],
        advice="Step it once an epoch, behind the inner loop; or give it numbers of batches.",
    )


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


def is_in_inner_loop(sources: Sources, event: Happened) -> bool:
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
            was to come, which went on with a hundredth of the rate or less, or with a rate that goes up and down. Or
            the number was made of that of the outer loop's rounds: step_size=epochs // 2.""",
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
