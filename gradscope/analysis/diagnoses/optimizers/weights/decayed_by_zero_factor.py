"""Weight decay that shrinks layers while their part of the loss is multiplied by zero."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.losses.zero_terms import ZeroStretch, zero_stretches
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import ops_between
from gradscope.analysis.report_model import Evidence

SHRUNK = 0.05
"""What decay must have taken of the values meanwhile."""
STEPS = 5
"""Steps from which on it is told of optimizers that make a whole step of the decay alone."""

_WHOLE_STEPS = frozenset(("Adam", "NAdam", "RAdam", "Adamax", "RMSprop", "Adagrad"))
"""Those that add the decay to the gradient and normalise the sum: with a gradient of zero it is a step of full size."""

_PLAIN_ZERO = re.compile(r"(?<![\w.])0(\.0*)?\s*\*(?!\*)|(?<!\*)\*\s*0(\.0*)?(?![\w.])")
"""Written so where parameters without a use are to take part in a pass, as DistributedDataParallel wants them to."""


def decayed_by_zero_factor(sources: Sources, decaying: list[tuple[Optimizer, int]]) -> Iterator[Finding]:
    """One finding for each line that multiplies by zero, and each optimizer."""
    index, by_leaf = sources.index, {tensor: optimizer for optimizer, tensor in decaying}
    found: dict[tuple[int, int], list[ZeroStretch]] = {}
    for stretch in zero_stretches(index, sources.passes, sources.looks):
        optimizer = by_leaf.get(stretch.leaf)
        if optimizer is None or not _is_much(sources, optimizer, stretch):
            continue
        if index.op_line(stretch.op) and not _PLAIN_ZERO.search(index.op_place(stretch.op).source):
            key = index.op_statement[stretch.op], optimizer.made.subject
            found.setdefault(key, []).append(stretch)
    for stretches in found.values():
        leaves = [one.leaf for one in stretches]
        optimizer, last = by_leaf[leaves[0]], stretches[0]
        made = [part for part in optimizer.groups if leaves[0] in part.tensors][:1]
        names = sources.listed([sources.names.of(leaf) for leaf in leaves])
        yield sources.finding(
            f"Line {index.op_line(last.op)}: a factor of 0 gives {names} a gradient of zeros",
            why=f"weight_decay={optimizer.setting(leaves[0], 'weight_decay'):g} of the {optimizer.name} of line "
            f"{optimizer.line} shrinks them meanwhile, as a gradient of zeros is a gradient",
            op=last.op,
            tensors=leaves,
            causes=[
                *sources.cause("used", last.op),
                *(cause for event in made for cause in sources.cause_of_event("set", event)),
            ],
            evidence=[Evidence("events", look.event) for look in last.passes],
            advice="Leave the term out of the sum while its factor is 0: a parameter without a gradient is skipped.",
        )


def _is_much(sources: Sources, optimizer: Optimizer, stretch: ZeroStretch) -> bool:
    """Whether decay alone changed a leaf by much in the steps between the first of the passes and the last."""
    all_steps = sources.lives.steps.get(stretch.leaf, [])
    steps = len(ops_between(all_steps, stretch.passes[0].op, stretch.passes[-1].op))
    if optimizer.name in _WHOLE_STEPS and not optimizer.setting(stretch.leaf, "decoupled_weight_decay"):
        return steps >= STEPS
    decay, rate = (optimizer.setting(stretch.leaf, name) for name in ("weight_decay", "lr"))
    return 1 - max(1 - rate * decay, 0.0) ** steps >= SHRUNK
