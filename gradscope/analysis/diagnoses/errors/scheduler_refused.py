"""A scheduler whose step raised: it was made for fewer steps, or for fewer groups of parameters."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.recording.model import Outcome
from gradscope.recording.rows import EventKind

_TOO_MANY = re.compile(r"Tried to step \d+ times\. The specified number of total steps is (\d+)")
_GROUPS = re.compile(r"zip\(\) argument \d+ is (shorter|longer) than argument")
_FILE = "lr_scheduler.py"


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for a program that ended in a scheduler's step."""
    outcome = sources.index.recording.info.outcome
    if outcome.kind != "exception" or outcome.file < 0 or _FILE not in outcome.traceback:
        return
    made = [event for event in sources.events.of(EventKind.LEARNING_RATE) if event.detail.get("call") == "made"]
    if (counts := _TOO_MANY.search(outcome.message)) is not None:
        yield from _of_steps(sources, outcome, made, int(counts[1]))
    elif _GROUPS.search(outcome.message):
        yield from _of_groups(sources, outcome, made)


def _of_steps(sources: Sources, outcome: Outcome, made: list[Happened], total: int) -> Iterator[Finding]:
    """Of schedulers that know their end, the only one that was made."""
    known = [event for event in made if event.detail.get("scheduler") == "OneCycleLR"]
    if len(known) != 1 or known[0].span < 0:
        return
    index, text = sources.index, sources.index.recording.files[outcome.file].text
    is_inner = len(loops_around(text, outcome.line)) > 1
    yield sources.finding(
        f"Line {index.line(outcome.file, outcome.line)}: OneCycleLR of line {index.span_line(known[0].span)} was made "
        f"for {total:,} steps, and asked for one more",
        why="this line stands in the inner of two loops, and steps it once a batch" if is_inner else "",
        op=index.op_count - 1,
        tensors=[],
        causes=[
            *sources.cause_of_event("made", known[0]),
            sources.cause_of_line("step", outcome.file, outcome.line, outcome.line, ""),
        ],
        evidence=[Evidence("events", known[0].row)],
        advice="Make it for as many steps as it is to take: epochs=, steps_per_epoch=len(loader)"
        + (", or step it once an epoch." if is_inner else "."),
    )


def _of_groups(sources: Sources, outcome: Outcome, made: list[Happened]) -> Iterator[Finding]:
    """One finding for each scheduler whose optimizer got a group after it."""
    index = sources.index
    for optimizer in seen_optimizers(index, sources.events):
        mine = [event for event in made if event.subject == optimizer.made.subject and event.span >= 0]
        later = [group for group in optimizer.groups[1:] if mine and group.row > mine[-1].row and group.span >= 0]
        if later:
            scheduler = mine[-1].detail.get("scheduler")
            yield sources.finding(
                f"Line {index.line(outcome.file, outcome.line)}: {scheduler} of line {index.span_line(mine[-1].span)} "
                f"knows the groups of parameters that {optimizer.name} had then, and raised since line "
                f"{index.span_line(later[0].span)} added one",
                op=index.op_count - 1,
                tensors=[],
                causes=[*sources.cause_of_event("made", later[0]), *sources.cause_of_event("made", mine[-1])],
                evidence=[Evidence("events", later[0].row), Evidence("events", mine[-1].row)],
                advice="Give the optimizer all groups before the scheduler is made, or make a new scheduler after it.",
            )


DIAGNOSIS = Diagnosis(
    code="scheduler-refused",
    title="a scheduler whose step raised",
    severity="problem",
    explanation=Explanation(
        meaning="""A scheduler's step() raised: OneCycleLR had taken all the steps that it was made for, or its
            optimizer got a group of parameters after the scheduler was made.""",
        reason="""OneCycleLR is made for a number of steps, and step() counts calls, whatever they stand for: epochs
            or batches. Schedulers keep a base rate (LambdaLR a function) for each group that is there when they are
            made, and go through groups and rates side by side.""",
        remedy="""OneCycleLR(..., epochs=epochs, steps_per_epoch=len(loader)) where it is stepped once a batch.
            add_param_group() before the scheduler is made; afterwards a scheduler is to be made anew.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
for epoch in range(3):
    for batch in torch.ones(4, 2, 4):
        optimizer.zero_grad()
        layer(batch).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()
""",
        instead_of="scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)",
        silent="scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12)",
    ),
    find=_find,
)
