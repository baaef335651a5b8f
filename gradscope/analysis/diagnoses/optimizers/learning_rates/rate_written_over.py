"""A learning rate that is written into a group by hand, and that the scheduler overwrites when it steps next."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers, steps_of
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.frames.names.rates_of_groups import rates_of_one_group, rates_written
from gradscope.recording.rows import EventKind

_STEPS = 3
"""Steps with the scheduler's rate from which on it is told, and so many as had the written one."""
_MOVES = 2
"""Other rates that the steps before may have found: the scheduler's, and one by hand. A warm-up writes many."""
_ANOTHER = 0.1
"""The part of the larger of two rates by which they have to differ."""
_TOLD = re.compile(r"\b(base_lrs|initial_lr|max_lrs|ReduceLROnPlateau)\b|\[['\"](max_lr|min_lr|base_lr)['\"]\]")
"""What a text has that tells a scheduler of another rate, or writes rates without being a statement that does."""


class _Overwritten(NamedTuple):
    """One group."""

    number: int
    written: float
    rate: float
    base: float

    @property
    def is_never_another(self) -> bool:
        """Whether the scheduler multiplies a rate of zero: what else it may set, this group has none."""
        return self.base == 0 == self.rate

    @property
    def is_lost(self) -> bool:
        """Whether the rate that was written is no rate that the scheduler goes by by now."""
        differs = abs(self.written - self.rate) > _ANOTHER * max(self.written, self.rate)
        return self.written > 0 and differs and not math.isclose(self.written, self.base, rel_tol=_ANOTHER)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer whose rate was written once: who does so again and again wants both."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    overwritten: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        if event.detail.get("call") == "overwritten":
            overwritten.setdefault(event.subject, []).append(event)
    if not overwritten or any(file.is_user and _TOLD.search(file.text) for file in sources.index.recording.files):
        return
    told: set[int] = set()
    for subject, events in overwritten.items():
        (event, *more), optimizer = events, optimizers.get(subject)
        if more or optimizer is None or event.span < 0 or event.span in told:
            continue
        lost = [one for one in _groups(event) if one.is_lost]
        is_once = all(one.is_never_another for one in lost) or int(event.detail.get("moves", 0)) <= _MOVES
        since = sources.index.times(step for step in steps_of(sources.index, optimizer) if step >= event.op)
        if event.detail.get("made") and event.detail.get("steps"):
            continue  # another part of the training, without a schedule, may have been meant to have that rate
        if lost and is_once and since >= max(_STEPS, int(event.detail.get("steps", 0))):
            told.add(event.span)
            yield _finding(sources, event, optimizer, lost, since)


def _groups(event: Happened) -> list[_Overwritten]:
    columns = (event.detail.get(name) or [] for name in ("groups", "written", "rates", "base"))
    rows = zip(*columns, strict=False)
    return [
        _Overwritten(number, *map(float, numbers))
        for number, *numbers in rows
        if all(isinstance(one, int | float) for one in numbers)
    ]


def _finding(sources: Sources, event: Happened, optimizer: Optimizer, lost: list[_Overwritten], since: int) -> Finding:
    index, scheduler, written = sources.index, event.detail.get("scheduler"), _where_written(sources, lost)
    tensors = [
        tensor for one in lost if one.number < len(optimizer.groups) for tensor in optimizer.groups[one.number].tensors
    ]
    of = f" of {sources.listed([sources.names.of(tensor) for tensor in tensors])}" if tensors else ""
    step, (first, *_) = index.span_line(event.span), lost
    is_made = bool(event.detail.get("made"))
    kept = "initial_lr" if is_made else "base_lrs"
    instead = (
        f"sets 0 there, as it multiplies the rate of 0 that the group began with ({kept})"
        if first.is_never_another
        else f"sets {first.rate:.3g}, which it computes from the rate of the beginning ({first.base:.3g}, {kept})"
    )
    if written is None:
        does = scheduler if is_made else f"{scheduler}.step"
        symptom = f"Line {step}: {does} overwrites the learning rate{of} that was set by hand"
        why = f"it {instead}, and the {first.written:.3g} that was there holds for none of the {since:,} steps since"
    else:
        symptom = (
            f"Line {written.line}: the learning rate of {first.written:.3g} that is written into the group{of} is "
            f"overwritten by {scheduler} when it {'is made' if is_made else 'steps next'}"
        )
        why = f"line {step} {instead}, and the {since:,} steps since go by the scheduler's rates"
    return sources.finding(
        symptom,
        why=why,
        op=min(event.op, index.op_count - 1),
        tensors=tensors,
        causes=[*([written] if written is not None else []), *sources.cause_of_event("set", event)],
        evidence=[Evidence("events", event.row), Evidence("events", optimizer.made.row)],
        advice=f"Set {kept} of the {'group' if is_made else 'scheduler'} as well, or make the group with that rate.",
    )


def _where_written(sources: Sources, lost: list[_Overwritten]) -> Cause | None:
    """The one statement of the program that sets such a rate; of several the one that does so by the group's number."""
    files = [(number, file.text) for number, file in enumerate(sources.index.recording.files) if file.is_user]
    numbers = {one.number for one in lost}
    found = [(file, line) for file, text in files for line, _ in rates_written(text)]
    if len(found) > 1:
        found = [(file, line) for file, text in files for line, number in rates_of_one_group(text) if number in numbers]
    if len(found) != 1:
        return None
    ((file, line),) = found
    return sources.cause_of_line("write", file, line, line, "")


DIAGNOSIS = Diagnosis(
    code="rate-written-over",
    title="a learning rate written by hand that the scheduler overwrites at its next step",
    severity="warning",
    explanation=Explanation(
        meaning="""The program wrote a learning rate into a group of an optimizer, once, and the next step of a
            LambdaLR, OneCycleLR or CyclicLR set another one, by which the steps went from then on.""",
        reason="""These schedulers do not change the rate that they find: they compute each one from the rates that
            they began with, scheduler.base_lrs. A group that was made with 0, to be trained later, gets 0 times a
            factor.""",
        remedy="""Write the rate into scheduler.base_lrs too, or make the group with the rate that it is to have later:
            what has requires_grad off is not changed by it. A new LambdaLR for the same optimizer goes by
            group["initial_lr"], which the first one set. A program that writes rates again and again is not told
            of.""",
    ),
    example=Example(
        shows="""\
import torch

body, head = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
groups = [{"params": head.parameters()}, {"params": body.parameters(), "lr": 0.0}]
optimizer = torch.optim.SGD(groups, lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
for step in range(8):
    if step == 3:
        optimizer.param_groups[1]["lr"] = 0.01
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).pow(2).sum().backward()
    optimizer.step()
    schedule.step()
""",
        instead_of='optimizer.param_groups[1]["lr"] = 0.01',
        silent="schedule.base_lrs[1] = 0.01",
    ),
    find=_find,
)
