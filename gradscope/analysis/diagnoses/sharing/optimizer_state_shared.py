"""Two optimizers that go on with one state: what the one loaded are the tensors of the other."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.events import Happened
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.report_model import Evidence
from gradscope.recording.rows import EventKind


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that loads a state after which both optimizers step."""
    optimizers = {one.made.subject: one for one in seen_optimizers(sources.index, sources.events)}
    said: set[int] = set()
    for loaded in sources.events.of(EventKind.OPTIMIZER_STATE):
        own, other = optimizers.get(loaded.subject), optimizers.get(loaded.detail.get("from", -1))
        if own is None or other is None or loaded.span < 0 or loaded.span in said:
            continue
        # (which of two over one parameter makes a step is not known; the one is mostly there in the other's place)
        if own.tensors & other.tensors:
            continue
        steps = _steps_after(sources, own, loaded), _steps_after(sources, other, loaded)
        if all(steps):
            said.add(loaded.span)
            yield _finding(sources, own, other, loaded, max(max(steps)))


def _steps_after(sources: Sources, optimizer: Optimizer, loaded: Happened) -> list[int]:
    index, func = sources.index, f"{optimizer.name}.step"
    return [
        op
        for op in all_steps(index)
        if op >= loaded.op and index.func(op).endswith(func) and not optimizer.tensors.isdisjoint(index.uses.of(op))
    ]


def _finding(sources: Sources, own: Optimizer, other: Optimizer, loaded: Happened, step: int) -> Finding:
    count = loaded.detail.get("shared", 0)
    return sources.finding(
        f"Line {sources.index.span_line(loaded.span)}: two optimizers ({_both(own, other)}) have one state from here "
        f"on, of {count:,} tensor{'s' * (count != 1)}",
        why="load_state_dict keeps the tensors that it is given, and each step of the one changes the running means "
        "of the other",
        op=step,
        tensors=[],
        causes=sources.cause_of_event("set", loaded),
        evidence=[Evidence("events", loaded.row), Evidence("ops", step)],
        advice="Load copy.deepcopy() of the state.",
    )


def _both(own: Optimizer, other: Optimizer) -> str:
    return own.name if own.name == other.name else f"{own.name}, {other.name}"


DIAGNOSIS = Diagnosis(
    code="optimizer-state-shared",
    title="two optimizers that share one state",
    severity="warning",
    explanation=Explanation(
        meaning="""The state_dict() of one optimizer was loaded into another, for other parameters, and both went on to
            make steps: their running means (momentum, exp_avg) are the same tensors.""",
        reason="""state_dict() gives the optimizer's tensors, and load_state_dict() keeps those it is given where type
            and device fit. Neither makes a copy (load_state_dict of a module does).""",
        remedy="""Load a copy of the state: other.load_state_dict(copy.deepcopy(optimizer.state_dict())).""",
    ),
    example=Example(
        shows="""\
import copy
import torch

nets = [torch.nn.Linear(3, 1) for _ in range(2)]
optimizers = [torch.optim.Adam(net.parameters()) for net in nets]
for step in range(4):
    for net, optimizer in zip(nets, optimizers):
        optimizer.zero_grad()
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    if step == 1:
        optimizers[0].load_state_dict(optimizers[1].state_dict())
""",
        instead_of="optimizers[0].load_state_dict(optimizers[1].state_dict())",
        silent="optimizers[0].load_state_dict(copy.deepcopy(optimizers[1].state_dict()))",
    ),
    find=_find,
)
