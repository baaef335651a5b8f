"""An optimizer that is given the group dictionaries of another, and keeps the settings that it finds in them."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import first_step_of, seen_optimizers
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that makes an optimizer so, which steps."""
    by_span: dict[int, list[Happened]] = {}
    for event in sources.events.of(EventKind.OPTIMIZER):
        if event.span >= 0 and type(event.detail.get("in_vain")) is dict:
            by_span.setdefault(event.span, []).append(event)
    makers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)} if by_span else {}
    for events in by_span.values():
        other = makers.get(events[0].detail.get("filled_by", -1))
        step = first_step_of(sources.index, events[0])
        if other is not None and step >= 0:
            yield _finding(sources, events, f"{other.name} of line {other.line}", step)


def _finding(sources: Sources, events: list[Happened], other: str, step: int) -> Finding:
    index, first = sources.index, events[0]
    settings = first.detail.get("settings", {})
    names = list(first.detail["in_vain"])
    wanted = " and ".join(f"{name}={first.detail['in_vain'][name]:g}" for name in names)
    kept = " and ".join(f"{name}={settings.get(name, 0):g}" for name in names)
    return sources.finding(
        f"Line {index.span_line(first.span)}: {first.detail.get('optimizer', '')} is made with {wanted} and has {kept}",
        why=f"its groups are the dictionaries of the {other}, which has put its own settings into them",
        op=step,
        tensors=sorted({tensor for event in events for tensor in event.tensors}),
        causes=sources.cause_of_event("made", first),
        evidence=[Evidence("events", event.row) for event in events],
        advice="Build the list of groups anew for each optimizer.",
    )


DIAGNOSIS = Diagnosis(
    code="groups-of-another-optimizer",
    title="an optimizer on the group dictionaries of another",
    severity="warning",
    explanation=Explanation(
        meaning="""Two optimizers were given one list of group dictionaries. The second was made with another learning
            rate (or another setting) than it has: what the first has put into the dictionaries stayed there.""",
        reason="""An optimizer does not copy the dictionaries. It completes them with its settings, where one is
            missing; when the second comes, none is missing. A scheduler of one changes the rate of the other, too.""",
        remedy="""Make the list of groups anew for each optimizer, by a function that is called twice, or write the
            setting into the groups themselves.""",
    ),
    example=Example(
        shows="""\
import torch

layer = torch.nn.Linear(3, 1)
groups = [{"params": [layer.weight], "weight_decay": 0.1}, {"params": [layer.bias]}]
warm_up = torch.optim.SGD(groups, lr=0.001)
groups = list(groups)
optimizer = torch.optim.SGD(groups, lr=0.1)
layer(torch.rand(4, 3)).sum().backward()
optimizer.step()
""",
        instead_of="groups = list(groups)",
        silent='groups = [{"params": layer.parameters()}]',
    ),
    find=_find,
)
