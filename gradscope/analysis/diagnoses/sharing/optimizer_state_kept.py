"""An optimizer's state that is kept without a copy, and loaded back after further steps."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import seen_optimizers
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that took a state which a later one gave back."""
    index = sources.index
    states = sources.events.of(EventKind.OPTIMIZER_STATE)
    taken = {event.detail.get("number"): event for event in states if event.detail.get("call") == "taken"}
    optimizers = {one.made.subject: one for one in seen_optimizers(index, sources.events)}
    said: set[int] = set()
    for loaded in (event for event in states if event.detail.get("call") == "loaded"):
        kept, optimizer = taken.get(loaded.detail.get("number")), optimizers.get(loaded.subject)
        if kept is None or kept.span < 0 or optimizer is None or kept.span in said:
            continue
        func = f"{optimizer.name}.step"
        steps = [op for op in range(kept.op, loaded.op) if is_step(index, op) and index.func(op).endswith(func)]
        if steps:
            said.add(kept.span)
            yield _finding(sources, kept, loaded, steps)


def _finding(sources: Sources, kept: Happened, loaded: Happened, steps: list[int]) -> Finding:
    index, at = sources.index, ", and is loaded back"
    if loaded.span >= 0:
        at = f", and line {index.span_line(loaded.span)} loads it back"
    return sources.finding(
        f"Line {index.span_line(kept.span)}: an optimizer's state_dict() is kept without a copy{at}",
        why="its tensors are the optimizer's own, which each step changes in place: what is loaded is the last state "
        f"({index.times(steps):,} step{'s' * (len(steps) > 1)} later)",
        op=steps[-1],
        tensors=[],
        causes=sources.cause_of_event("saved", kept),
        evidence=[Evidence("events", kept.row), Evidence("events", loaded.row)],
        advice="Keep copy.deepcopy() of it.",
    )


DIAGNOSIS = Diagnosis(
    code="optimizer-state-kept",
    title="an optimizer's state that is kept without a copy",
    severity="warning",
    explanation=Explanation(
        meaning="""optimizer.state_dict() was kept as it is, and later loaded into the same optimizer, which had made
            steps meanwhile.""",
        reason="""state_dict() gives the very tensors of the optimizer's state (running means, momentum), not copies.
            Steps write them in place: the state that is loaded back is the last one, not the one that was kept.""",
        remedy="""best = copy.deepcopy(optimizer.state_dict()), or torch.save() it to a file.""",
    ),
    example=Example(
        shows="""\
import copy
import torch

net = torch.nn.Linear(3, 1)
optimizer = torch.optim.Adam(net.parameters())
for step in range(4):
    net(torch.ones(2, 3)).sum().backward()
    if step == 1:
        kept = optimizer.state_dict()
    optimizer.step()
    optimizer.zero_grad()
optimizer.load_state_dict(kept)
""",
        instead_of="kept = optimizer.state_dict()",
        silent="kept = copy.deepcopy(optimizer.state_dict())",
    ),
    find=_find,
)
