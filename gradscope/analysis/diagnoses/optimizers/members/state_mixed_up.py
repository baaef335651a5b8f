"""A loaded state whose running means are those of other parameters: the optimizer holds them in another order."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import seen_optimizers, steps_of
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer that makes a step with such a state."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    loads = {
        event.subject: event
        for event in sources.events.of(EventKind.OPTIMIZER_STATE)
        if event.detail.get("mixed") and event.span >= 0 and event.subject in optimizers
    }
    for subject, load in loads.items():
        optimizer = optimizers[subject]
        steps = [op for op in steps_of(sources.index, optimizer) if op >= load.op]
        if not steps or not load.tensors:
            continue
        names = sources.listed([sources.names.of(tensor) for tensor in load.tensors])
        yield sources.finding(
            f"Line {line_of_making(sources, optimizer)}: {optimizer.name} holds its parameters in another order than "
            f"the one whose state it loads (line {sources.index.span_line(load.span)})",
            why=f"{names} had other places in it when the state was taken, by their values, so that "
            f"{'each goes' if len(load.tensors) > 1 else 'it goes'} on with the running means of another parameter",
            op=steps[0],
            tensors=load.tensors,
            causes=[*cause_of_making(sources, optimizer), *sources.cause_of_event("set", load)],
            evidence=[Evidence("events", load.row), Evidence("events", optimizer.made.row)],
            advice="Give the optimizer its parameters in the order in which they were: a state knows them by place.",
        )


DIAGNOSIS = Diagnosis(
    code="state-mixed-up",
    title="an optimizer's state that is loaded for other parameters than it was taken of",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer loaded the state of another one. Some of its parameters hold, by their values, what had
            another place in that optimizer when the state was taken.""",
        reason="""The state_dict() of an optimizer numbers the parameters, in the order in which they were given. If the
            shapes fit, load_state_dict() notices nothing when that order is another: the momentum and the squares of
            one layer are those of another from then on.""",
        remedy="""Make the optimizer with the same list: model.parameters(), in one function for both runs. With
            model.named_parameters() the state has the names as well, to be compared.""",
    ),
    example=Example(
        shows="""\
import torch

first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
optimizer = torch.optim.Adam([first.weight, second.weight])
for step in range(2):
    second(first(torch.randn(2, 3))).sum().backward()
    optimizer.step()
saved = optimizer.state_dict()
optimizer = torch.optim.Adam([second.weight, first.weight])
optimizer.load_state_dict(saved)
optimizer.step()
""",
        instead_of="optimizer = torch.optim.Adam([second.weight, first.weight])",
        silent="optimizer = torch.optim.Adam([first.weight, second.weight])",
    ),
    find=_find,
)
