"""Weights that a pass gave gradients and that were then written in place, between a tensor and what is asked about it.

A virtual step: ``loss(eps).backward(); optimizer.step(); autograd.grad(outer, eps)``. The weights have their new values
because of ``eps``; but what writes a leaf in place is no part of a graph, and no gradient comes through it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index


class StepBetween(NamedTuple):
    """A write of weights through which the way was meant to lead."""

    passed: int
    """The pass from what was computed from the tensor, which gave the weights their gradients."""
    wrote: int
    """The first op that wrote them after it."""
    leaves: list[int]
    """The weights, which the root was made from."""


def step_between(index: Index, passes: Passes, tensor: int, behind: Collection[int], before: int) -> StepBetween | None:
    """The last write in place of what a root was made from, after a pass through a tensor had come to both.

    Args:
        index: The recording.
        passes: Its backward passes.
        tensor: The tensor that the root is asked about.
        behind: What the root was made from.
        before: The op that asks.
    """
    node = index.recording.tensors.column("node")[tensor]
    leaves = [one for one in behind if one != tensor and index.is_leaf_with_grad(one, before)]
    storages, written = index.recording.tensors.column("storage"), dict[int, list[int]]()
    on = {storages[leaf]: leaf for leaf in leaves if storages[leaf] >= 0}
    for op, one, _, _ in all_writes(index):
        leaf = on.get(storages[one], one)  # (``p.data.sub_()`` writes it too)
        if op < before:
            written.setdefault(leaf, []).append(op)
    for op in sorted((op for op in index.roots if op < before), reverse=True) if leaves else ():
        roots = index.root_nodes(op)
        reached = passes.leaves_behind(*roots)
        if tensor not in reached and not (node >= 0 and any(node in passes.behind(root) for root in roots)):
            continue
        after = {leaf: [at for at in written.get(leaf, ()) if at > op] for leaf in leaves if leaf in reached}
        stepped = [leaf for leaf, ops in after.items() if ops]
        if stepped:
            return StepBetween(op, min(after[leaf][0] for leaf in stepped), stepped)
    return None
