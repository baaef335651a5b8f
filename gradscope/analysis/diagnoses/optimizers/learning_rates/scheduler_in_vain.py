"""Learning rate schedulers that change nothing: never stepped, made anew, or for an optimizer that makes no step."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers, steps_of
from gradscope.analysis.report_model import Evidence
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.blocks.updates_written import WHOLE_TEXT, NotReached, calls_of_step, not_reached
from gradscope.recording.rows import EventKind

STEPS = 10
"""Steps of the optimizer from which on a scheduler that was never stepped is reported: an epoch may be longer."""
ROUNDS = 4
"""Schedulers of one line from which on they are reported."""
_BY_COUNT = ("LambdaLR", "OneCycleLR", "CyclicLR", "CosineAnnealingWarmRestarts")
"""Schedulers whose rates follow from how often they have stepped alone."""
_STEPPED = re.compile(r"([A-Za-z_]\w*)(?:\[[^]]*\]|\(\))?\.step\(")
_OF_SCHEDULES = re.compile(r"sch|lr|warm|anneal|decay|cos|cycle|plateau", re.IGNORECASE)


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each scheduler."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    by_optimizer: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        by_optimizer.setdefault(event.subject, []).append(event)
    for subject, events in by_optimizer.items():
        made = [event for event in events if event.detail.get("call") == "made" and event.span >= 0]
        optimizer = optimizers.get(subject)
        if not made or optimizer is None:
            continue
        is_stepped = any(event.detail.get("call") in ("first", "early") for event in events)
        if not any("zero" in event.detail for event in events):
            yield from _of_idle_optimizer(sources, optimizer, made[-1], list(optimizers.values()))
        elif not is_stepped:
            others = [one for one in optimizers.values() if one is not optimizer and one.name == optimizer.name]
            # (of two of one class over the same parameters, nothing tells whose steps those are)
            if all(one.tensors.isdisjoint(optimizer.tensors) for one in others):
                yield from _never_stepped(sources, optimizer, made[-1])
        elif events[-1].detail.get("call") == "idle":
            yield from _of_replaced_optimizer(sources, optimizer, made[-1], events[-1], by_optimizer)
        else:
            yield from _made_each_round(sources, optimizer, made, events)


def _of_idle_optimizer(
    sources: Sources, idle: Optimizer, made: Happened, optimizers: list[Optimizer]
) -> Iterator[Finding]:
    """A scheduler of an optimizer that makes no step, where another one steps the same parameters."""
    for other in optimizers:
        steps = steps_of(sources.index, other) if other is not idle and other.tensors & idle.tensors else []
        if len(steps) < 2:
            continue
        line, name = sources.index.span_line(made.span), made.detail.get("scheduler")
        yield sources.finding(
            f"Line {line}: the {name} sets the rate of the {idle.name} of line {idle.line}, which makes no step",
            why=f"the {other.name} of line {other.line} steps the same parameters, with a rate that no scheduler sets",
            op=steps[-1],
            tensors=sorted(other.tensors & idle.tensors)[:1],
            causes=[*sources.cause_of_event("made", made), *sources.cause_of_event("made", other.made)],
            evidence=[Evidence("events", made.row), Evidence("events", idle.made.row)],
            advice="Make the scheduler after the optimizer that makes the steps, and give it that one.",
        )
        return


def _of_replaced_optimizer(
    sources: Sources, idle: Optimizer, made: Happened, noted: Happened, scheduled: dict[int, list[Happened]]
) -> Iterator[Finding]:
    """A scheduler that goes on with an optimizer that steps no more, since another was made for its parameters.

    Not where the other has a scheduler of its own: then the old one is left over, and does no harm.
    """
    for other in seen_optimizers(sources.index, sources.events):
        is_later = made.row < other.made.row < noted.row and not other.tensors.isdisjoint(idle.tensors)
        own = scheduled.get(other.made.subject, [])
        if not is_later or any(event.detail.get("call") == "made" for event in own):
            continue
        began = next((event for event in own if "zero" in event.detail), None)
        steps = [op for op in steps_of(sources.index, other) if began is not None and op >= noted.op]
        if began is None or len(steps) < 2:
            continue
        line, by = line_of_making(sources, other), sources.index.span_line(made.span)
        name = made.detail.get("scheduler")
        yield sources.finding(
            f"Line {line}: no scheduler sets the rate of this {other.name}: the {name} of line {by} goes on with the "
            f"{idle.name} before it, which makes no step any more",
            why="both hold the same parameters" if other.tensors == idle.tensors else "both hold some parameters",
            op=steps[-1],
            tensors=sorted(other.tensors & idle.tensors)[:1],
            causes=[*cause_of_making(sources, other), *sources.cause_of_event("made", made)],
            evidence=[Evidence("events", made.row), Evidence("events", noted.row), Evidence("events", began.row)],
            advice="Make a scheduler for it there, or give the new parameters to the old one with add_param_group.",
        )
        return


def _made_each_round(
    sources: Sources, optimizer: Optimizer, made: list[Happened], events: list[Happened]
) -> Iterator[Finding]:
    """Schedulers of one line and one optimizer, each of which makes one step, in the round that makes it.

    Those that go on from the rate that they find by one factor a step (``ExponentialLR``) lose nothing by that.
    """
    index, last = sources.index, made[-1]
    alike = [event for event in made if event.span == last.span]
    first = [event for event in events if event.detail.get("call") == "first" and event.span >= 0]
    if len(alike) < ROUNDS or len(alike) < len(made) or len({event.span for event in first}) != 1:
        return
    if last.detail.get("scheduler") not in _BY_COUNT and int(last.detail.get("of") or 0) < 2:
        return
    at, stepped = index.recording.spans[last.span], index.recording.spans[first[-1].span]
    loops = [
        loops_around(index.recording.files[at.file].text, one.line) if at.file >= 0 else [] for one in (at, stepped)
    ]
    if at.file != stepped.file or not loops[0] or loops[0] != loops[1]:
        return
    line, name = index.span_line(last.span), last.detail.get("scheduler")
    yield sources.finding(
        f"Line {line}: a new {name} of {optimizer.name} is made in each round ({len(alike):,} times), and line "
        f"{index.span_line(first[-1].span)} steps it there",
        why="each begins to count anew, so that none comes further than the first step of its schedule",
        op=min(last.op, index.op_count - 1),
        tensors=sorted(optimizer.tensors)[:1],
        causes=[*sources.cause_of_event("made", last), *sources.cause_of_event("step", first[-1])],
        evidence=[Evidence("events", event.row) for event in (*alike[-2:], first[-1])],
        advice="Make it once, before the loop.",
    )


def _step_not_reached(sources: Sources, made: Happened) -> tuple[int, NotReached] | None:
    """Why the one call of a scheduler's step in the file that makes it does not run, where the text tells it."""
    recording = sources.index.recording
    span = recording.spans[made.span]
    target = recording.source(span.file, span.stmt_line, span.stmt_end_line).partition("=")[0].strip()
    text = recording.files[span.file].text if span.file >= 0 else ""
    calls = calls_of_step(text, target)
    reason = not_reached(text, calls[0]) if len(calls) == 1 else None
    if reason is None or not (reason.function or reason.is_counted or reason.is_compared):
        return None
    if reason.scope == WHOLE_TEXT and not loops_around(text, reason.line):
        return None  # (it is asked once)
    files, lines = (recording.spans.column(name) for name in ("file", "line"))
    seen = (line for file, line in zip(files, lines, strict=True) if file == span.file)
    is_seen = not reason.test or any(reason.scope[0] <= line < reason.scope[1] for line in seen)
    return (span.file, reason) if is_seen else None


def _never_stepped(sources: Sources, optimizer: Optimizer, made: Happened) -> Iterator[Finding]:
    """A scheduler that was never stepped in a run that came to its end.

    The text has no such call, or one alone, under a condition that was never true or in what nothing calls.
    """
    recording, steps = sources.index.recording, steps_of(sources.index, optimizer)
    if len(steps) < STEPS or recording.info.outcome.kind not in ("ok", "exit"):
        return
    if _has_a_call(sources, made):
        told = _step_not_reached(sources, made)
        if told is not None:
            yield _not_reached(sources, optimizer, made, *told)
        return
    line, name = sources.index.span_line(made.span), made.detail.get("scheduler")
    yield sources.finding(
        f"Line {line}: the {name} of {optimizer.name} is never stepped "
        f"({sources.index.times(steps):,} steps of the optimizer)",
        why="the learning rate stays what it is when the schedule begins",
        op=steps[-1],
        tensors=sorted(optimizer.tensors)[:1],
        causes=sources.cause_of_event("made", made),
        evidence=[Evidence("events", made.row)],
        advice="Call step() of it after the optimizer's, in each round or each epoch.",
    )


def _not_reached(sources: Sources, optimizer: Optimizer, made: Happened, file: int, reason: NotReached) -> Finding:
    index, steps = sources.index, steps_of(sources.index, optimizer)
    name, line = made.detail.get("scheduler"), index.line(file, reason.line)
    often = f"{index.times(steps):,} steps of {optimizer.name}"
    what = f"nothing calls {reason.function}" if reason.function else f"{reason.test} was never true"
    return sources.finding(
        f"Line {line}: {what}, so that the {name} of line {index.span_line(made.span)} is never stepped ({often})",
        why="the learning rate stays what it is when the schedule begins",
        op=steps[-1],
        tensors=sorted(optimizer.tensors)[:1],
        causes=[
            sources.cause_of_line("step", file, reason.line, reason.line, ""),
            *([] if reason.is_counted else sources.cause_of_event("made", made)),
        ],
        evidence=[Evidence("events", made.row)],
        severity="note" if reason.is_counted else None,  # (the run may be shorter than those that it was written for)
    )


def _has_a_call(sources: Sources, made: Happened) -> bool:
    """Whether the program has a call that may be the scheduler's step: of its name, or of what is called like one."""
    recording = sources.index.recording
    span = recording.spans[made.span]
    target = recording.source(span.file, span.stmt_line, span.stmt_end_line).partition("=")[0]
    names = set(re.findall(r"[A-Za-z_]\w*", target))
    called = {name for file in recording.files if file.is_user for name in _STEPPED.findall(file.text)}
    return any(name in names or _OF_SCHEDULES.search(name) for name in called)


DIAGNOSIS = Diagnosis(
    code="scheduler-in-vain",
    title="a learning rate scheduler that changes nothing",
    severity="warning",
    explanation=Explanation(
        meaning="""A scheduler was made and never stepped, though its optimizer made many steps (its step stands under
            a condition that was never true, or nowhere); or a new one was made in each round that steps it; or it was
            made for an optimizer that makes no step (or none any more), while another optimizer, for which no scheduler
            was made, steps the same parameters.""",
        reason="""A scheduler writes the rate into the groups of the one optimizer that it was given, each time that its
            step() is called, and does nothing else. An optimizer that is made anew has its own rate.""",
        remedy="""Call scheduler.step() after optimizer.step(), once a round or once an epoch as the schedule is meant,
            and make the scheduler after the optimizer that makes the steps.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
for step in range(12):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.get_last_lr()
""",
        instead_of="schedule.get_last_lr()",
        silent="schedule.step()",
    ),
    find=_find,
)
