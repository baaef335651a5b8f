"""Terms of a loss that a network gave without a graph for what the loss trains: an actor's action, judged in no_grad.

A value of what is trained is asked of another network in a ``no_grad`` block, to keep gradients out of that one's
parameters, and added to the loss as it is. What was not tracked when it went in (a batch, a sampled index) makes such a
term a constant that was meant, as ``detach()`` does.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import plain_name
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.cuts import Cuts
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER

_WITHOUT_WAY = frozenset("sample normal bernoulli poisson multinomial argmax argmin round sign floor ceil".split())  # noqa: SIM905
"""Calls that have no gradient, with a graph or without: what is drawn, or chosen, in the block."""
_REGIONS = ("no_grad", "inference_mode")


class EvaluatedTerm(NamedTuple):
    """A term that a network computed from what is trained."""

    cut: int
    """The op at which the way was lost."""
    given: int
    """What was given to the network, with a graph."""


def evaluated_term(
    index: Index, flow: Flow, cuts: Cuts, passes: Passes, tensor: int, at: int, reached: Collection[int]
) -> EvaluatedTerm | None:
    """That a term was computed so, and for nothing else lost its way; None for other terms.

    Args:
        index: The recording.
        flow: Where values came from.
        cuts: What cut them off.
        passes: The graph.
        tensor: The term, which does not require grad.
        at: The op that added it.
        reached: Leaves to which the loss gave gradients by other ways.
    """
    steps = flow.origins(tensor, at)
    lost = {taken: step.op for taken, step in steps.items() if step.loses}
    given = [taken for taken, op in lost.items() if not index.is_leaf_with_grad(taken, op)]
    regions = {cuts.line_to_change(op) for op in lost.values()}
    if not given or len(regions) != 1 or any(cuts.kind(op) not in _REGIONS for op in lost.values()):
        return None
    flags, nodes = (index.recording.tensors.column(name) for name in ("flags", "node"))
    for one in given:
        way = flow.path(steps, one)
        if any(plain_name(index.func(step.op)) in _WITHOUT_WAY or not index.is_floating(step.gives) for step in way):
            continue
        behind = passes.leaves_behind(nodes[one])
        taken = {use for step in way for use in index.uses.of(step.op)}
        by_network = any(flags[use] & PARAMETER and use not in behind for use in taken)
        if by_network and behind and behind.issubset(reached):
            return EvaluatedTerm(lost[one], one)
    return None
