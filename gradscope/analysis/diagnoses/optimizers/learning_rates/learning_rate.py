"""Steps with a learning rate of zero, and a scheduler that steps before the optimizer: two diagnoses."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.learning_rates.scheduler_per_batch import (
    counted_by_epoch,
    is_in_inner_loop,
)
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers, steps_of, steps_until_made_anew
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.analysis.wording import listed
from gradscope.frames.blocks.loops_around import loops_around
from gradscope.frames.called_by_torch.integer_divisions import divided_in_factor
from gradscope.frames.names.rates_of_groups import rates_written
from gradscope.recording.rows import EventKind

STEPS = 3
"""Steps with a rate of zero from which on it is reported, where there were no others."""
STEPS_AT_THE_END = 5
"""The same, where there were others before; they are half of all steps at least."""
_OF_ALL, _OF_ALL_OF_BATCHES = 0.5, 0.4
"""The part of all steps that have next to no rate from which on it is told; where a loop over batches in one over
epochs steps the scheduler, a rate that had fallen to a hundredth within a fifth of them (see scheduler-per-batch)."""

_SET_OUTRIGHT = ("LambdaLR", "OneCycleLR", "CyclicLR")
"""Schedulers that set a rate whatever it was before."""


def _find_zero(sources: Sources) -> Iterator[Finding]:
    """Optimizers all of whose groups have a rate of zero: from the first step to the last, or in the second half."""
    by_optimizer = _by_optimizer(sources)
    seen = [event.detail for events in by_optimizer.values() for event in events]
    if not any("tiny" in detail or any(detail.get("zero") or ()) for detail in seen):
        return
    optimizers = seen_optimizers(sources.index, sources.events)
    tried = {one.made.span for one in optimizers if _begins_above_zero(by_optimizer.get(one.made.subject, []))}
    for optimizer in optimizers:
        events = by_optimizer.get(optimizer.made.subject, [])
        if optimizer.made.span in tried and not _begins_above_zero(events) and _zero_loaded(events) is None:
            continue  # one of several rates that its line is given, to see what each does
        steps = steps_until_made_anew(sources.index, optimizer, optimizers)
        changes = [(event.op, all(event.detail["zero"])) for event in events if event.detail.get("zero")]
        since = changes[-1][0] if changes and changes[-1][1] else len(sources.index.recording.ops)
        zero = [step for step in steps if step >= since]
        is_always = bool(changes) and changes[0][1] and len(changes) == 1
        if len(zero) >= (STEPS if is_always else STEPS_AT_THE_END) and 2 * len(zero) >= len(steps):
            yield _of_optimizer(sources, optimizer, events, zero, steps)
        elif len(steps) >= STEPS and (groups := _groups_at_zero(optimizer, events)):
            yield from _of_groups(sources, optimizer, groups, steps)
        elif (
            small := next((one for one in reversed(events) if "zero" in one.detail), None)
        ) and "tiny" in small.detail:
            tiny = [step for step in steps if step >= small.op]
            if len(tiny) >= STEPS_AT_THE_END and len(tiny) >= _part_told(sources, optimizer, events) * len(steps):
                yield from _next_to_nothing(sources, optimizer, events, small, tiny, sources.index.times(steps))
        elif len(changes) > 1 and changes[0][1]:
            # A warm-up from zero is meant to leave zero at once: only a division that gives nothing else is told of.
            first = [step for step in steps if step < changes[1][0]]
            if len(first) < STEPS_AT_THE_END:
                continue
            schedulers = _schedulers(events, first)
            if len(schedulers) == 1 and _divided(sources, schedulers[0]):
                yield _of_optimizer(sources, optimizer, events, first, steps)


def _part_told(sources: Sources, optimizer: Optimizer, events: list[Happened]) -> float:
    """The part of the steps with next to no rate from which on they are told of; more than all where it is told of."""
    if any(one.stepped.subject == optimizer.made.subject for one in counted_by_epoch(sources)):
        return 2.0
    stepped = [event for event in events if event.detail.get("call") == "first" and event.span >= 0]
    made_there = [one for one in sources.events.of(EventKind.OPTIMIZER) if one.span == optimizer.made.span]
    is_one = len({event.subject for event in made_there}) == 1  # (else one for each round: each with rates of its own)
    by_batch = is_one and any(
        is_in_inner_loop(sources, event) and _is_made_before(sources, optimizer, event) for event in stepped
    )
    return _OF_ALL_OF_BATCHES if by_batch else _OF_ALL


def _is_made_before(sources: Sources, optimizer: Optimizer, stepped: Happened) -> bool:
    """Whether an optimizer is made outside the loops that step its scheduler: once for all of their rounds."""
    made, at = (sources.index.recording.spans[one] for one in (optimizer.made.span, stepped.span))
    text = sources.index.recording.files[at.file].text if at.file >= 0 else ""
    loops = loops_around(text, at.line)
    return made.file != at.file or not any(first <= made.line <= last for first, last in loops)


def _groups_at_zero(optimizer: Optimizer, events: list[Happened]) -> list[Happened]:
    """The groups that were made with a rate of zero, beside others, and had that in all steps."""
    zero = [event.detail["zero"] for event in events if event.detail.get("zero")]
    if not zero or len({len(rates) for rates in zero}) > 1 or len(zero[0]) != len(optimizer.groups):
        return []
    return [
        group
        for number, group in enumerate(optimizer.groups)
        if (group.detail.get("settings") or {}).get("lr") == 0 and all(rates[number] for rates in zero)
    ]


def _of_groups(sources: Sources, optimizer: Optimizer, groups: list[Happened], steps: list[int]) -> Iterator[Finding]:
    """A note: who wants to freeze parameters may do it so, and a rate that was forgotten looks the same."""
    index, trained = sources.index, [tensor for group in groups for tensor in group.tensors]
    names = [sources.names.of(tensor) for tensor in trained if tensor in sources.lives.passes]
    if not names:
        return
    line = index.span_line(groups[0].span) if groups[0].span >= 0 else optimizer.line
    are, kept = ("is", "it as it is") if len(names) == 1 else ("are", "them as they are")
    yield sources.finding(
        f"Line {line}: {sources.listed(names)} {are} in a group with a learning rate of 0 in all "
        f"{index.times(steps):,} steps of {optimizer.name}, which leave {kept}",
        why="gradients are computed for nothing",
        op=steps[-1],
        tensors=trained,
        causes=sources.cause_of_event("made", groups[0]),
        evidence=[Evidence("events", group.row) for group in groups],
        advice="Give the group a rate, or set requires_grad_(False) where it is to stay as it is.",
        severity="note",
    )


def _begins_above_zero(events: list[Happened]) -> bool:
    rates = [event.detail["zero"] for event in events if event.detail.get("zero")]
    return bool(rates) and not all(rates[0])


def _zero_loaded(events: list[Happened]) -> Happened | None:
    """The last load of a saved state, where that brought rates of zero to an optimizer with others."""
    loads = [event for event in events if event.detail.get("call") == "loaded"]
    is_zero = bool(loads) and not any(loads[-1].detail["after"]) and any(loads[-1].detail["before"])
    return loads[-1] if is_zero else None


def _by_optimizer(sources: Sources) -> dict[int, list[Happened]]:
    found: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        found.setdefault(event.subject, []).append(event)
    return found


def _of_optimizer(
    sources: Sources, optimizer: Optimizer, events: list[Happened], zero: list[int], steps: list[int]
) -> Finding:
    index, last = sources.index, zero[-1]
    schedulers = _schedulers(events, zero)
    where = "last" if zero[-1] == steps[-1] else "first"
    often = f"all {index.times(steps):,} steps"
    if len(zero) < len(steps):
        often = f"the {where} {index.times(zero):,} of {index.times(steps):,} steps"
    what = f"the learning rate of {optimizer.name} is 0 in {often}: they change nothing"
    why, causes = _set_to_zero(sources, optimizer, schedulers)
    loaded = _zero_loaded([event for event in events if event.op <= zero[0]])
    if loaded is not None and not any(loaded.op <= step < zero[0] for step in steps):
        # Most schedules only multiply the rate that is there: one that begins with 0 is none of their making.
        later = [event for event in schedulers if event.op > loaded.op]
        if not any(event.detail.get("scheduler") in _SET_OUTRIGHT for event in later):
            why, causes = _brought_back(sources, loaded)
    symptom = f"Line {index.op_line(last)}: {what}"
    divided = _divided(sources, schedulers[-1]) if len(causes) == 1 and schedulers else None
    if divided is not None:
        cause, source = divided
        name = schedulers[-1].detail.get("scheduler")
        symptom = f"Line {cause.line}: {source} divides whole numbers without a rest"
        why, causes = f"the {name} of line {causes[0].line} takes it for its factor, and {what}", [cause, *causes]
    return sources.finding(
        symptom,
        why=why,
        op=last,
        tensors=sorted(optimizer.tensors)[:1],
        causes=causes or sources.cause("step", last),
        evidence=[Evidence("events", event.row) for event in events if event.detail.get("zero")],
    )


def _next_to_nothing(
    sources: Sources, optimizer: Optimizer, events: list[Happened], small: Happened, tiny: list[int], steps: int
) -> Iterator[Finding]:
    """Steps whose rate has fallen to next to nothing, where one scheduler only sets it: by the line that steps it."""
    schedulers = _schedulers(events, tiny)
    stepped = [event for event in events if event.detail.get("call") in ("first", "early")]
    causes = [cause for event in stepped[:1] for cause in sources.cause_of_event("step", event)]
    if len(schedulers) != 1 or not causes:
        return
    part = float(small.detail["tiny"]) / float(small.detail["first"])
    yield sources.finding(
        f"Line {causes[0].line}: {schedulers[0].detail.get('scheduler')}.step is called so often that the learning "
        f"rate of {optimizer.name} has fallen to {part:.0e} of what it was, or less, in the last "
        f"{sources.index.times(tiny):,} of {steps:,} steps",
        why="they change next to nothing",
        op=tiny[-1],
        tensors=sorted(optimizer.tensors)[:1],
        causes=[*causes, *sources.cause_of_event("set", schedulers[0])],
        evidence=[Evidence("events", small.row)],
        advice="A schedule that is made for epochs is stepped once an epoch.",
    )


def _schedulers(events: list[Happened], steps: list[int]) -> list[Happened]:
    """The schedulers of an optimizer that were made before the last of some steps, the last of each class."""
    made = [event for event in events if event.detail.get("call") == "made" and event.op <= steps[-1]]
    return list({str(event.detail.get("scheduler")): event for event in made}.values())


def _set_to_zero(sources: Sources, optimizer: Optimizer, schedulers: list[Happened]) -> tuple[str, list[Cause]]:
    """What set the rate: the optimizer's own lr, or a scheduler where there is one only."""
    rates = [(group.detail.get("settings") or {}).get("lr") for group in optimizer.groups]
    if not schedulers and all(rate == 0 for rate in rates):
        made = sources.cause_of_event("made", optimizer.made)
        return f"line {optimizer.line} makes it with lr=0", made
    causes = [cause for event in schedulers for cause in sources.cause_of_event("set", event)]
    if not causes and rates and all(rates) and None not in rates:
        return _set_by_hand(sources)
    if len(causes) == 1:
        return f"the {schedulers[0].detail.get('scheduler')} of line {causes[0].line} sets it", causes
    return "", causes


def _set_by_hand(sources: Sources) -> tuple[str, list[Cause]]:
    """The one statement of the program that sets the rate of a group: what no scheduler did, it did."""
    recording = sources.index.recording
    files = enumerate(recording.files)
    places = [(file, line) for file, row in files if row.is_user for line, _ in rates_written(row.text)]
    if len(places) != 1:
        return "", []
    file, line = places[0]
    return f"line {sources.index.line(file, line)} sets it", [sources.cause_of_line("set", file, line, line, "")]


def _brought_back(sources: Sources, loaded: Happened) -> tuple[str, list[Cause]]:
    """That a saved state set the rates to zero."""
    causes = sources.cause_of_event("set", loaded)
    at = f"line {causes[0].line} (load_state_dict)" if causes else "load_state_dict"
    before = listed([f"{rate:g}" for rate in dict.fromkeys(loaded.detail["before"]) if rate is not None])
    return (
        f"{at} replaces lr={before} by the 0 of the saved state, where it was when that was saved; set lr of its "
        "param_groups after loading, or load the rest of the state only",
        causes,
    )


def _divided(sources: Sources, scheduler: Happened) -> tuple[Cause, str] | None:
    """The division by which the function of a schedule gives 0, where its text has one that does."""
    recording = sources.index.recording
    span = recording.spans[scheduler.span] if scheduler.span >= 0 else None
    found = None if span is None else divided_in_factor(recording.files[span.file].text, span.line)
    if span is None or found is None:
        return None
    return sources.cause_of_line("set", span.file, found[0], found[0], ""), found[1]


def _find_early(sources: Sources) -> Iterator[Finding]:
    """Schedulers that made a step before their optimizer did, unless a ``GradScaler`` may have left that one out."""
    index = sources.index
    optimizers = {one.made.subject: one for one in seen_optimizers(index, sources.events)}
    scaled = {event.detail.get("optimizer") for event in sources.events.of(EventKind.GRAD_SCALER)}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer = optimizers.get(event.subject)
        if event.detail.get("call") != "early" or event.span < 0 or optimizer is None or event.subject in scaled:
            continue
        steps = steps_of(sources.index, optimizer)
        if not steps or steps[0] < event.op:
            continue
        line = index.span_line(event.span)
        yield sources.finding(
            f"Line {line}: {event.detail.get('scheduler')}.step comes before the first step of {optimizer.name}, "
            "so that the first value of the schedule is never used",
            op=steps[0],
            tensors=sorted(optimizer.tensors)[:1],
            causes=sources.cause_of_event("step", event),
            evidence=[Evidence("events", event.row)],
            advice="Step the scheduler after the optimizer.",
        )


DIAGNOSES = (
    Diagnosis(
        code="learning-rate-zero",
        title="an optimizer steps with a learning rate of zero, or next to nothing",
        severity="warning",
        explanation=Explanation(
            meaning="""All steps of an optimizer, or all of the second half of a run, or of a warm-up whose function
                divides whole numbers, were made with lr 0 in every one of its groups: gradients were computed and the
                parameters did not move. Or the rate fell below a millionth of the first one, and stayed so. A group
                that was made with lr 0 beside others, and kept that, is a note.""",
            reason="""lr=0 is a valid setting, and schedulers reach it: a lambda with an integer division, a decay that
                is over before the training is, a scheduler that is stepped in every batch and was made for epochs.
                load_state_dict() of an optimizer brings back the rate of the state too: 0 after a finished schedule.
                A warm-up from zero that rises afterwards is no case of it.""",
            remedy="""Give the optimizer a rate, or the scheduler the number of steps that it will make.""",
        ),
        example=Example(
            shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 100)
for step in range(8):
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    schedule.step()
""",
            instead_of="schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step // 100)",
            silent="schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)",
        ),
        find=_find_zero,
    ),
    Diagnosis(
        code="scheduler-before-step",
        title="a learning rate scheduler stepped before its optimizer",
        severity="warning",
        explanation=Explanation(
            meaning="""The scheduler's step() was called before the optimizer had made its first step.""",
            reason="""Since torch 1.1 a scheduler sets the first value of its schedule when it is made. A step before
                the optimizer's goes on to the second, and the whole schedule is one step early.""",
            remedy="""Call scheduler.step() after optimizer.step(), in each round or each epoch.""",
        ),
        example=Example(
            shows="""\
import torch

layer = torch.nn.Linear(3, 1)
optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
for step in range(3):
    schedule.step()
    optimizer.zero_grad()
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
""",
            instead_of="schedule.step()",
            silent="schedule.get_last_lr()",
        ),
        find=_find_early,
    ),
)
