"""An optimizer none of whose parameters ever had a gradient, while the passes gave gradients to others.

Of parameters that were sharded after the optimizer was made, also some of them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.report_model import Evidence
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

STEPS = 2
"""Passes that gave others gradients, and steps, from which on it is reported."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each optimizer; a parameter that others are is told of by :mod:`never_stepped`."""
    index = sources.index
    others = _others(sources)
    optimizers = seen_optimizers(index, sources.events) if others else []
    first = min((passes[0] for passes in others.values()), default=NONE)
    for one in optimizers:
        if sum(other.name == one.name for other in optimizers) > 1 or not one.tensors:
            continue  # (which of them made a step is not known)
        steps = [op for op in index.of_kind(OpKind.STEP) if op > first and index.func(op) == f"{one.name}.step"]
        without = [tensor for tensor in one.tensors if not _may_have_had_one(sources, tensor)]
        sharded = _sharded_at(sources, one, others) if without else 0
        if len(steps) >= STEPS and without and (sharded or len(without) == len(one.tensors)):
            yield _finding(sources, one, without, others, steps, sharded)


def _others(sources: Sources) -> dict[int, list[int]]:
    """Leaves that no optimizer holds, that got gradients in several passes, and that nothing wrote since the first."""
    index, held = sources.index, sources.events.in_optimizers
    flags = index.recording.tensors.column("flags")
    found = {
        tensor: passes
        for tensor, passes in sources.lives.passes.items()
        if len(passes) >= STEPS and tensor not in held and not flags[tensor] & PARAMETER and index.is_leaf(tensor)
    }
    written = last_written(index) if found else {}
    return {
        tensor: passes
        for tensor, passes in found.items()
        if written.get(index.storage_at(tensor, passes[-1]), NONE) < passes[0]
    }


def _may_have_had_one(sources: Sources, tensor: int) -> bool:
    """Whether a parameter got a gradient, or a way to it is known that is cut: another answer names the cut."""
    if tensor in sources.lives.passes:
        return True
    reasons = (reason for (_, one), reason in sources.gradients.unreached.items() if one == tensor)
    return any(not reason.unused for reason in reasons)


def _finding(
    sources: Sources, one: Optimizer, without: list[int], others: dict[int, list[int]], steps: list[int], sharded: int
) -> Finding:
    held, got = (sources.listed([sources.names.of(tensor) for tensor in some]) for some in (sorted(without), others))
    changed = "nothing" if len(without) == len(one.tensors) else f"nothing of {'it' if len(without) == 1 else 'these'}"
    given = f"to those that fully_shard (line {sharded}) put in their place" if sharded else f"to {got}"
    return sources.finding(
        f"Line {one.line}: {one.name} was given {held}, and no backward pass ever gave one of them a gradient: its "
        f"{sources.index.times(steps):,} steps changed {changed}; the passes gave gradients {given}, which no "
        "optimizer holds",
        op=steps[-1],
        tensors=list(others),
        causes=[*cause_of_making(sources, one), *sources.stored(min(others), steps[-1])],
        evidence=[Evidence("events", one.made.row), *(Evidence("ops", passes[-1]) for passes in others.values())],
        advice="Make the optimizer after that." if sharded else f"Make the optimizer of what the passes reach: {got}.",
    )


def _sharded_at(sources: Sources, one: Optimizer, others: dict[int, list[int]]) -> int:
    """The line after an optimizer's at which ``fully_shard`` made the leaves that got gradients; 0: another did."""
    index = sources.index
    layouts, of = index.recording.layouts, index.recording.tensors.column("layout")
    made = [index.made_by(tensor) for tensor in others]
    are_sharded = all(index.recording.text(layouts[of[tensor]].type_name) == "DTensor" for tensor in others)
    last = max(made)
    if not are_sharded or last < one.made.op or "fully_shard(" not in index.op_place(last).source:
        return 0
    return index.op_line(min(op for op in made if op >= one.made.op))


DIAGNOSIS = Diagnosis(
    code="steps-without-gradients",
    title="an optimizer whose parameters never had a gradient",
    severity="warning",
    explanation=Explanation(
        meaning="""An optimizer made its steps, and none of its parameters ever got a gradient. The backward passes
            gave gradients to other leaves, made from the parameters or beside them, which no optimizer holds and
            nothing wrote.""",
        reason="""A step leaves parameters alone whose .grad is None. stack_module_state, copies and stacked or
            rearranged weights are new leaves: what is computed from them leads there, and not to the parameters that
            their values came from.""",
        remedy="""Give the optimizer the leaves that are computed with. Or compute with the parameters themselves:
            torch.stack() of parameters, without detach(), keeps the way to them.""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

members = [nn.Linear(3, 1) for _ in range(2)]
params, buffers = stack_module_state(members)
optimizer = torch.optim.Adam([p for member in members for p in member.parameters()])
for step in range(3):
    optimizer.zero_grad()
    out = vmap(lambda p: functional_call(members[0], p, torch.ones(4, 3)))(params)
    out.pow(2).sum().backward()
    optimizer.step()
""",
        instead_of="optimizer = torch.optim.Adam([p for member in members for p in member.parameters()])",
        silent="optimizer = torch.optim.Adam(params.values())",
    ),
    find=_find,
)
