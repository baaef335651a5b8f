"""A parameter that an optimizer holds more than once, and steps as often."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import first_step_of
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind

_OFTEN = {2: "twice", 3: "three times"}


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that gave an optimizer, which steps, a parameter more than once in one group."""
    by_span: dict[int, tuple[Happened, dict[int, int]]] = {}
    for event in sources.events.of(EventKind.OPTIMIZER):
        several = {tensor: times for tensor, times in Counter(event.tensors).items() if times > 1}
        if several and event.span >= 0:
            by_span.setdefault(event.span, (event, several))
    for event, several in by_span.values():
        step = first_step_of(sources.index, event)
        if step < 0:
            continue
        index, most = sources.index, max(several.values())
        often, optimizer = _OFTEN.get(most, f"{most:,} times"), event.detail.get("optimizer", "an optimizer")
        names = sources.listed([sources.names.of(tensor) for tensor in several])
        yield sources.finding(
            f"Line {index.span_line(event.span)}: {optimizer} is given {names} {often}",
            why=f"each step updates {'it' if len(several) == 1 else 'them'} {often}",
            op=step,
            tensors=list(several),
            causes=sources.cause_of_event("made", event),
            evidence=[Evidence("events", event.row)],
            advice="Give it each parameter once: list(dict.fromkeys(parameters)) leaves out what comes again.",
        )


DIAGNOSIS = Diagnosis(
    code="parameter-held-twice",
    title="a parameter that an optimizer holds more than once",
    severity="warning",
    explanation=Explanation(
        meaning="""One parameter is in the list of an optimizer's group more than once, and each step updates it as
            often: with a shared part, a larger learning rate than the others have.""",
        reason="""The lists of two modules that share a part were put together: parameters() leaves out what comes again
            in one module, not in two. torch warns of it, and goes through the list as it is.""",
        remedy="""Give the optimizer each parameter once: list(dict.fromkeys([*a.parameters(), *b.parameters()])), or
            the parameters() of one module that holds both.""",
    ),
    example=Example(
        shows="""\
import torch

trunk = torch.nn.Linear(3, 3)
actor = torch.nn.Sequential(trunk, torch.nn.Linear(3, 2))
critic = torch.nn.Sequential(trunk, torch.nn.Linear(3, 1))
parameters = [*actor.parameters(), *critic.parameters()]
optimizer = torch.optim.Adam(parameters)
(actor(torch.rand(4, 3)).sum() + critic(torch.rand(4, 3)).sum()).backward()
optimizer.step()
""",
        instead_of="parameters = [*actor.parameters(), *critic.parameters()]",
        silent="parameters = torch.nn.ModuleList([actor, critic]).parameters()",
    ),
    find=_find,
)
