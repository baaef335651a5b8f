"""Layers behind which a ReLU gives nothing but zeros since a step of their optimizer: they get no gradient any more."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.diagnosis import Diagnosis, Example, Explanation
from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.optimizers.optimizer_places import cause_of_making, line_of_making
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.derivatives.zero_derivatives import Blocked, ZeroGradients
from gradscope.analysis.facts.optimizers import Optimizer, seen_optimizers
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.report_model import Evidence
from gradscope.analysis.worded_lines import numbers

LOOKS = 4
"""Passes looked at in a row, up to the last, from which on it is reported; they are half of all at least."""


def _find(sources: Sources) -> Iterator[Finding]:
    """One finding for each set of looks since which layers are dead."""
    looks = sources.looks
    died = _died(looks)
    for since in sorted(set(died.values())):
        later = [look for look in looks if look.op >= since]
        leaves = {leaf for leaf, at in died.items() if at == since}
        for blocked in ZeroGradients(sources.index, sources.passes, later, sources.functions).found():
            own = [leaf for leaf in blocked.leaves if leaf in leaves]
            if own and _is_of_relu(sources, blocked) and not blocked.everywhere:
                yield from _of_step(sources, blocked, own, looks, since)


def _died(looks: list[PassLook]) -> dict[int, int]:
    """Leaves whose gradient was not zero at first, and the pass since which it is zero whenever it was looked at."""
    passes: dict[int, list[PassLook]] = {}
    for look in looks:
        for leaf in look.gradients:
            passes.setdefault(leaf, []).append(look)
    found: dict[int, int] = {}
    for leaf, own in passes.items():
        alive = [place for place, look in enumerate(own) if not is_zero(look.gradients[leaf])]
        zero = own[alive[-1] + 1 :] if alive else []
        is_at_rest = all(root == (0.0, 0.0) for look in zero for root in look.roots)
        if len(zero) >= LOOKS and 2 * len(zero) >= len(own) and not is_at_rest:
            found[leaf] = zero[0].op
    return found


def _is_of_relu(sources: Sources, blocked: Blocked) -> bool:
    return bool(blocked.ops) and all("relu" in sources.index.func(op) for op in blocked.ops)


def _of_step(
    sources: Sources, blocked: Blocked, leaves: list[int], looks: list[PassLook], since: int
) -> Iterator[Finding]:
    """What is said where one optimizer stepped the leaves between the last pass that gave a gradient, and the next."""
    index = sources.index
    before = max(look.op for look in looks if look.op < since and leaves[0] in look.gradients)
    steps = ops_between(sources.lives.steps.get(leaves[0], []), before, since)
    holders = [one for one in seen_optimizers(index, sources.events) if leaves[0] in one.tensors]
    if not steps or len(holders) != 1:
        return
    optimizer: Optimizer = holders[0]
    rate, line = optimizer.setting(leaves[0], "lr"), line_of_making(sources, optimizer)
    lines = numbers(index.op_line(op) for op in blocked.ops)
    names = sources.listed([sources.names.of(leaf) for leaf in leaves])
    after = "the step" if len(steps) == 1 else f"one of {len(steps):,} steps"
    yield sources.finding(
        f"Line {line}: since {after} of this {optimizer.name} (lr={rate:g}) after the pass number "
        f"{_number(sources, before)}, the relu at line {lines} gives nothing but zeros, and {names} no gradient",
        why=f"that was so in all {len(blocked.passes)} passes looked at from there on: a unit that gives zero for all "
        "inputs gets no gradient, and stays so",
        op=steps[-1],
        tensors=leaves,
        causes=cause_of_making(sources, optimizer),
        evidence=[Evidence("events", look.event) for look in blocked.passes],
        advice="Take a smaller rate (or a warm-up, or clipped gradients).",
    )


def _number(sources: Sources, op: int) -> int:
    """The number of a pass among those of the run, from 1 on."""
    return len({one for one in sources.index.recording.backwards.column("op") if one <= op})


DIAGNOSIS = Diagnosis(
    code="layer-died",
    title="a layer that a step left without gradient, behind a ReLU",
    severity="warning",
    explanation=Explanation(
        meaning="""Parameters got gradients at first. Since a step of their optimizer a ReLU behind them gave zeros for
            all that went in, and their gradient was zero in each pass that was looked at, to the last.""",
        reason="""The derivative of a ReLU is zero where its result is. One step that is too large can move a bias or
            the weights so far that no input of the data leads to a positive value: no gradient leads back.""",
        remedy="""A smaller learning rate, a warm-up, clipped gradients, scaled inputs or targets; or an activation with
            a slope on both sides (leaky_relu, GELU).""",
    ),
    example=Example(
        shows="""\
import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.rand(64, 5)
targets = 10 * inputs.sum(1, keepdim=True) - 20
net = nn.Sequential(nn.Linear(5, 32), nn.ReLU(), nn.Linear(32, 1))
rate = 1.0
optimizer = torch.optim.SGD(net.parameters(), lr=rate)
for epoch in range(20):
    optimizer.zero_grad()
    nn.functional.mse_loss(net(inputs), targets).backward()
    optimizer.step()
""",
        instead_of="rate = 1.0",
        silent="rate = 0.001",
    ),
    find=_find,
)
