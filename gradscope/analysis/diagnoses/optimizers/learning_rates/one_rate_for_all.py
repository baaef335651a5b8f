"""A scheduler that sets one learning rate for all groups of an optimizer, which were given different ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind

STEPS = 2
"""Steps with the scheduler's rate from which on it is reported."""
_ARGUMENTS = {"OneCycleLR": "max_lr takes", "CyclicLR": "base_lr and max_lr take"}
"""Schedulers that set rates whatever those of the groups are, and the arguments for them: numbers, or lists of them."""
_LIST = re.compile(r"[=(,]\s*\[")
_SETS = re.compile(r"""\[["']lr["']\]\s*[-+*/]?=[^=]""")


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each scheduler that was made so before its optimizer's first step."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer, rate = optimizers.get(event.subject), event.detail.get("one")
        is_wanted = event.detail.get("call") == "made" and event.detail.get("scheduler") in _ARGUMENTS
        if optimizer is None or not is_wanted or event.span < 0 or not isinstance(rate, int | float) or not rate:
            continue
        given = [_given(group) for group in optimizer.groups if group.op <= event.op]
        if None in given or len(set(given)) < 2 or _is_set_by_text(sources, event):
            continue
        yield from _finding(sources, event, optimizer, min(one for one in given if one is not None), float(rate))


def _given(group: Happened) -> float | None:
    """The rate that a group was made with; None where it is not known."""
    rate = (group.detail.get("settings") or {}).get("lr")
    return float(rate) if isinstance(rate, int | float) else None


def _is_set_by_text(sources: Sources, event: Happened) -> bool:
    """Whether the text gives the scheduler a list of rates, which are the same, or sets rates of groups itself."""
    recording = sources.index.recording
    span = recording.spans[event.span]
    is_listed = _LIST.search(recording.source(span.file, span.stmt_line, span.stmt_end_line))
    return bool(is_listed) or any(file.is_user and _SETS.search(file.text) for file in recording.files)


def _finding(sources: Sources, event: Happened, optimizer: Optimizer, lowest: float, rate: float) -> Iterator[Finding]:
    index, lives = sources.index, sources.lives
    slow = [one for group in optimizer.groups if _given(group) == lowest for one in group.tensors if one in lives.steps]
    steps = [step for one in slow[:1] for step in lives.steps[one] if step >= event.op]
    if len(steps) < STEPS or any(step < event.op for one in slow[:1] for step in lives.steps[one]):
        return
    name, line = event.detail["scheduler"], index.span_line(event.span)
    yield sources.finding(
        f"Line {line}: {name} sets one learning rate for all groups of {optimizer.name}, {rate:.3g} at first",
        why=f"the {lowest:.3g} that {sources.listed([sources.names.of(one) for one in slow])} were given is never used "
        f"({index.times(steps):,} steps)",
        op=steps[-1],
        tensors=slow,
        causes=sources.cause_of_event("made", event),
        evidence=[Evidence("events", event.row), Evidence("events", optimizer.made.row)],
        advice=f"{_ARGUMENTS[name]} a list too, with a rate for each group.",
    )


DIAGNOSIS = Diagnosis(
    code="one-rate-for-all",
    title="a scheduler that overwrites different learning rates of groups by one",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer's groups were given different learning rates, 0 among them perhaps, and a OneCycleLR or
            CyclicLR was made with one rate for all. The optimizer's steps used that one for every group.""",
        reason="""Most schedulers multiply the rate that a group has. These two set it: a group with lr 0.0, which was
            to stay as it is, is trained like the others.""",
        remedy="""Give max_lr (and base_lr) as a list with one rate for each group: max_lr=[0.0, 0.01]. What is not to
            be trained at all is best left out of the optimizer, with requires_grad_(False).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

body, head = nn.Linear(3, 4), nn.Linear(4, 1)
groups = [{"params": body.parameters(), "lr": 0.0}, {"params": head.parameters(), "lr": 0.1}]
optimizer = torch.optim.SGD(groups)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)
for step in range(4):
    optimizer.zero_grad()
    head(body(torch.ones(2, 3))).pow(2).mean().backward()
    optimizer.step()
    schedule.step()
""",
        instead_of="schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=4)",
        silent="schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=[0.0, 0.1], total_steps=4)",
    ),
    find=_find,
)
