"""Parameters that are replaced between the backward pass and the step, which then finds no gradients."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.passes.steps_after_replacing import ReplacedBeforeStep, replaced_before_steps
from gradscope.analysis.report_model import Evidence

STEPS = 2
"""Such steps from which on it is reported: a model that grows once loses one."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each line that steps."""
    by_statement: dict[int, list[ReplacedBeforeStep]] = {}
    for one in replaced_before_steps(sources.index, sources.lives):
        by_statement.setdefault(sources.index.op_statement[one.step], []).append(one)
    for found in by_statement.values():
        if len(found) >= STEPS:
            yield _finding(sources, found)


def _finding(sources: Sources, found: list[ReplacedBeforeStep]) -> Finding:
    index, last = sources.index, found[-1]
    names = sources.listed([_name(sources, tensor, last) for tensor in last.new])
    made = index.recording.storages.column("op")[index.storage_at(last.new[0], last.step)]
    return sources.finding(
        f"Line {index.op_line(last.step)}: {index.times(one.step for one in found):,} steps apply no gradient to "
        f"{names}",
        why="these are replaced between the backward pass and the step, and the gradients are left with the old ones",
        op=last.step,
        tensors=list(last.new),
        causes=[*sources.cause("used", last.step), *sources.cause("made", made)],
        evidence=[Evidence("ops", last.backward), *(Evidence("tensors", tensor) for tensor in last.old)],
        advice="Step, and clear the gradients, before the parameters are replaced.",
    )


def _name(sources: Sources, tensor: int, found: ReplacedBeforeStep) -> str:
    """What the pass after the step knows a new parameter by: at the step it may have the name of a helper's alone."""
    used = [op for op in sources.index.users.of(tensor) if op > found.step]
    return sources.names.at(tensor, used[0] if used else found.step)


DIAGNOSIS = Diagnosis(
    code="replaced-before-step",
    title="parameters that are replaced before the step applies their gradients",
    severity="warning",
    explanation=Explanation(
        meaning="""Several times, a backward pass gave parameters gradients, then others took their place in the
            optimizer, and the step came after that. It changed none of them.""",
        reason="""A gradient is the .grad of the parameter that the pass reached. A new parameter has none, even if it
            has the old one's values, and a step leaves alone what has no gradient.""",
        remedy="""Call optimizer.step() and zero_grad() first, then add, remove or replace parameters.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

points = nn.Parameter(torch.rand(4))
optimizer = torch.optim.SGD([points], lr=0.1)
for iteration in range(9):
    points.pow(2).sum().backward()
    pass
    if iteration % 3 == 2:
        points = nn.Parameter(torch.cat([points.data, torch.rand(1)]))
        optimizer.param_groups[0]["params"] = [points]
    optimizer.step()
    optimizer.zero_grad()
""",
        instead_of="pass",
        silent="optimizer.step(); optimizer.zero_grad()",
    ),
    find=_find,
)
