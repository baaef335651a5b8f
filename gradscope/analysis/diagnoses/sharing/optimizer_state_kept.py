"""An optimizer's state that is kept without a copy, and loaded back after further steps."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import is_step
from gradscope.analysis.report_model import Evidence
from gradscope.frames.kept_states import KeptState, kept_states

_LOAD = "optim.Optimizer.load_state_dict"
STEPS = 2
"""Steps before the state is loaded back."""


def _find(sources: Sources) -> Iterator[Finding]:
    index = sources.index
    loads = {op for op in index.last_op.values() if index.func(op) == _LOAD}
    if not loads:
        return
    with_state = [one for one in seen_optimizers(index, sources.events) if one.name != "SGD" or _has_momentum(one)]
    for number, file in enumerate(index.recording.files):
        for kept in kept_states(file.text) if file.is_user and with_state else ():
            for op in loads:
                where = index.statements[index.op_statement[op]]
                steps = [step for step in range(op) if is_step(index, step)]
                if (where.file, where.line) == (number, kept.loaded) and len(steps) >= STEPS:
                    yield _finding(sources, number, kept, op, steps[-1])


def _has_momentum(optimizer: Optimizer) -> bool:
    return any(optimizer.setting(leaf, "momentum") for leaf in optimizer.tensors)


def _finding(sources: Sources, file: int, kept: KeptState, load: int, step: int) -> Finding:
    return sources.finding(
        f"Line {kept.line}: {kept.owner}.state_dict() is kept without a copy, and line {kept.loaded} loads it back",
        why="its tensors are the optimizer's own, which each step changes in place: what is loaded is the last state",
        op=load,
        tensors=[],
        causes=[sources.cause_of_line("saved", file, kept.line, kept.end_line, "")],
        evidence=[Evidence("ops", step)],
        advice=f"Keep copy.deepcopy({kept.owner}.state_dict()).",
    )


DIAGNOSIS = Diagnosis(
    code="optimizer-state-kept",
    title="an optimizer's state that is kept without a copy",
    severity="warning",
    explanation=Explanation(
        meaning="""A loop keeps optimizer.state_dict() as it is, and a line after the loop loads that into the same
            optimizer, which made steps meanwhile.""",
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
