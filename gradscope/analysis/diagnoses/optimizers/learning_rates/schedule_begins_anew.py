"""An optimizer whose state was loaded, and a scheduler that sets its rate as if the training began."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import first_step_of, seen_optimizers
from gradscope.analysis.report_model import Cause, Evidence
from gradscope.recording.rows import EventKind

_ANOTHER = 0.1
"""The part of the larger of two rates by which they have to differ: the first steps of a schedule may be flat."""

_WITHOUT_STATE = "no state of the scheduler was loaded, so that it counts from its first step again"
_LOADED_TOO = (
    "it did so when it was made, after the load; its own state, which it was given then, sets no rate before its next "
    "step"
)
_ADVICE = {
    _WITHOUT_STATE: "Save the scheduler's state_dict() with the optimizer's, and load both.",
    _LOADED_TOO: "Make the scheduler first, then load both states.",
}


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each load after which an optimizer goes on with the rate of a schedule's beginning."""
    told: set[tuple[int, object]] = set()
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    loads = {event.subject: event for event in sources.events.of(EventKind.LEARNING_RATE) if _is_load(event)}
    for event in sources.events.of(EventKind.LEARNING_RATE):
        optimizer, load = optimizers.get(event.subject), loads.get(event.subject)
        if event.detail.get("call") not in ("begun", "set back") or optimizer is None or load is None:
            continue
        restored, rates = _rates(event, "restored"), _rates(event, "rates")
        pairs = [pair for pair in zip(restored, rates, strict=False) if abs(pair[0] - pair[1]) > _ANOTHER * max(pair)]
        place = load.span, event.detail.get("call")
        if pairs and place not in told and first_step_of(sources.index, optimizer.made) >= 0:
            told.add(place)
            yield _finding(sources, event, load, *pairs[0])


def _is_load(event: Happened) -> bool:
    return event.detail.get("call") == "restored" and event.span >= 0


def _rates(event: Happened, name: str) -> list[float]:
    return [float(rate) for rate in event.detail.get(name) or () if isinstance(rate, (int, float))]


def _finding(sources: Sources, event: Happened, load: Happened, restored: float, rate: float) -> Finding:
    index, scheduler, made = sources.index, event.detail.get("scheduler"), _made_after(sources, load, event)
    causes, why = sources.cause_of_event("set", load), _WITHOUT_STATE
    if event.detail.get("call") == "set back":
        causes, made, why = made, causes, _LOADED_TOO
    return sources.finding(
        f"Line {index.span_line(load.span)}: load_state_dict gave the optimizer back a rate of {restored:.3g}, and the "
        f"{scheduler} set {rate:.3g} instead",
        why=why,
        op=min(event.op, index.op_count - 1),
        tensors=[],
        causes=[*causes, *made],
        evidence=[Evidence("events", load.row), Evidence("events", event.row)],
        advice=_ADVICE[why],
    )


def _made_after(sources: Sources, load: Happened, event: Happened) -> list[Cause]:
    """The line that made the scheduler, where it was made after the load."""
    made = [
        one
        for one in sources.events.of(EventKind.LEARNING_RATE)
        if one.detail.get("call") == "made" and one.subject == event.subject and load.row < one.row < event.row
    ]
    return sources.cause_of_event("made", made[-1]) if made else []


DIAGNOSIS = Diagnosis(
    code="schedule-begins-anew",
    title="a schedule that begins again after an optimizer's state was loaded",
    severity="warning",
    explanation=Explanation(
        meaning="""The state of an optimizer was loaded, whose rate a scheduler had set in the training before. A
            scheduler with no state loaded then set another rate: that of its own beginning. Or a scheduler that was
            made after the load did so, and its own state, which was loaded then, did not bring the rate back.""",
        reason="""How far a schedule has come is in the scheduler's last_epoch, not in the optimizer's state. LambdaLR,
            OneCycleLR and others compute the rate from that count alone: a new one begins its warm-up, or its decay,
            once more, whatever rate was loaded.""",
        remedy="""Save scheduler.state_dict() in the checkpoint as well. Make the scheduler before either state is
            loaded: to make one sets the rate, to load its state does not.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)

def make():
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))

def train(optimizer, scheduler):
    for step in range(5):
        optimizer.zero_grad()
        layer(torch.ones(2, 3)).pow(2).mean().backward()
        optimizer.step()
        scheduler.step()

optimizer, scheduler = make()
train(optimizer, scheduler)
saved, count = optimizer.state_dict(), scheduler.state_dict()
optimizer, scheduler = make()
optimizer.load_state_dict(saved)
train(optimizer, scheduler)
""",
        instead_of="optimizer.load_state_dict(saved)",
        silent="optimizer.load_state_dict(saved), scheduler.load_state_dict(count)",
    ),
    find=_find,
)
