"""Weight decay that moves the elements whose gradient a hook makes zero in every pass."""

from __future__ import annotations

from collections.abc import Iterator

from gradscope.analysis.diagnoses.finding import Finding
from gradscope.analysis.diagnoses.sources import Sources
from gradscope.analysis.facts.modules.effects_on_leaves import EffectOnLeaf, effects_on_leaves
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.writes import is_step, writes_by_program
from gradscope.analysis.report_model import Evidence

LOOKS = 3
"""Looks at a hook that must have found the same elements made zero: a mask may be drawn anew."""


def decayed_past_hooks(sources: Sources, decaying: list[tuple[Optimizer, int]]) -> Iterator[Finding]:
    """One finding for each line that made an optimizer.

    Args:
        sources: What is known.
        decaying: Optimizers that step with weight decay, each with a tensor that it decays.
    """
    by_leaf = {tensor: optimizer for optimizer, tensor in decaying}
    written = _written_beside(sources)
    found: dict[int, list[EffectOnLeaf]] = {}
    for effect in effects_on_leaves(sources.hooks):
        optimizer = by_leaf.get(effect.leaf)
        if optimizer is not None and _is_held(effect) and effect.leaf not in written:
            found.setdefault(optimizer.made.subject, []).append(effect)
    for effects in found.values():
        leaves = list(dict.fromkeys(one.leaf for one in effects))
        optimizer, steps = by_leaf[leaves[0]], sources.lives.steps.get(leaves[0], [])
        if not steps:
            continue
        made = [part for part in optimizer.groups if leaves[0] in part.tensors][:1]
        hooks = list(dict.fromkeys(one.hook.name for one in effects))
        yield sources.finding(
            f"Line {optimizer.line}: this {optimizer.name} has weight_decay="
            f"{optimizer.setting(leaves[0], 'weight_decay'):g}, which also moves those elements of "
            f"{sources.listed([sources.names.of(leaf) for leaf in leaves])} whose gradient "
            f"{sources.listed(hooks)}, a hook, makes zero",
            why="a gradient of zero is a gradient: the step adds the decay to it",
            op=steps[-1],
            tensors=leaves,
            causes=[cause for event in made for cause in sources.cause_of_event("set", event)],
            evidence=[Evidence("events", one.hook.registered[0].row) for one in effects[:1]],
            advice="Only weight_decay=0 leaves them as they are; or keep what is held still out of the parameter.",
        )


def _is_held(effect: EffectOnLeaf) -> bool:
    """Whether a hook made the same elements zero each time, and the leaf moved where it holds something in them.

    What is zero itself (pruned, padding) stays so. A hook that makes all of it zero unawares has an answer of its own.
    """
    hook = effect.hook
    if effect.at_times or len(effect.looks) < LOOKS or not effect.valued or effect.moved < effect.valued:
        return False
    if effect.zeroed == effect.elements and not hook.source.is_zero_on_purpose:
        return False
    if hook.source.chooses_by_gradient:
        return False
    return not any("pad" in name for name in (hook.name.lower(), *hook.source.mentions))


def _written_beside(sources: Sources) -> set[int]:
    """Tensors on memory that the program wrote other than by a step, once steps had begun."""
    index = sources.index
    first = min((ops[0] for ops in sources.lives.steps.values() if ops), default=index.op_count)
    storages = {
        index.storage_at(tensor, op)
        for op, tensor, _, _ in writes_by_program(index)
        if op > first and not is_step(index, op)
    }
    return {leaf for leaf in sources.lives.steps if index.storage_at(leaf, first) in storages}
