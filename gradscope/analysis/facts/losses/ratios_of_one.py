"""Ratios of two probabilities of the same samples by the same parameters, both in the graph: no gradient is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.graphs.computed_alike import ComputedAlike
from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, tracked_uses
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index

_HANDED_ON = AS_IT_IS | {"sum", "stack", "cat", "neg"}
_OF_LOGARITHMS = re.compile(
    r"\.(log|log2|log_prob|log_softmax|logsumexp|logsigmoid|cross_entropy|nll_loss|\w+_with_logits)"
)
"""What log-probabilities are computed with."""
_FOLLOWED = 200
"""Tensors that are followed back from a sample to what it was put together of."""


class RatioOfOne(NamedTuple):
    """One ratio."""

    op: int
    """The op that took the one log-probability off the other."""
    old: int
    """The op that computed the one that was there first."""
    new: int
    leaves: list[int]
    """Behind both."""


def ratios_of_one(index: Index, passes: Passes) -> Iterator[RatioOfOne]:
    """The last one of each line that a backward pass came through."""
    nodes, walked = index.recording.tensors.column("node"), passes.first_walked_at
    funcs = index.recording.ops.column("func")
    asked = {func for func in set(funcs) if index.recording.text(func).endswith(".exp")}
    last = {index.op_statement[op]: op for op, func in enumerate(funcs) if func in asked}
    compared = ComputedAlike(index)
    for op in sorted(last.values()):
        made, taken = index.tensors_made(op), tracked_uses(index, op)
        if len(made) != 1 or not taken or nodes[made[0]] < 0 or walked[nodes[made[0]]] < 0:
            continue
        difference = below(index, taken[0], _HANDED_ON)
        at = maker(index, difference)
        sides = tracked_uses(index, at) if at >= 0 and called(index, at) == "sub" else []
        if len(sides) == 2 and (found := _of_sides(index, passes, compared, at, *sides)) is not None:
            yield found


def _of_sides(
    index: Index, passes: Passes, compared: ComputedAlike, op: int, first: int, second: int
) -> RatioOfOne | None:
    nodes = index.recording.tensors.column("node")
    leaves = [passes.leaves_behind(nodes[side]) for side in (first, second)]
    if not leaves[0] or leaves[0] != leaves[1]:
        return None
    # (a step between the two makes them differ: backward then fails, or is another matter)
    ends = [_probability(index, side) for side in (first, second)]
    if all(end is not None for end in ends):
        (old, of_old), (new, of_new) = sorted(end for end in ends if end is not None)
        if old < new and (of_old in _parts(index, of_new) or of_new in _parts(index, of_old)):
            return RatioOfOne(op, old, new, sorted(leaves[0]))
    pairs = compared.calls(first, second) if first != second else None
    if not pairs or not any(_OF_LOGARITHMS.search(index.func(made)) for made, _ in pairs):
        return None
    old, new = sorted((maker(index, first), maker(index, second)))
    return RatioOfOne(op, old, new, sorted(leaves[0]))


def _probability(index: Index, tensor: int) -> tuple[int, int] | None:
    """The op of the log-probability that a tensor is, and the sample that it is of."""
    op = maker(index, below(index, tensor, _HANDED_ON))
    taken = list(index.uses.of(op)) if op >= 0 else []
    if op >= 0 and index.func(op).endswith(".log_prob") and len(taken) > 1:
        return op, taken[0]
    if op >= 0 and called(index, op) == "gather" and len(taken) > 1:
        logits = below(index, taken[0], AS_IT_IS)
        return (op, taken[1]) if called(index, maker(index, logits)) == "log_softmax" else None
    return None


def _parts(index: Index, tensor: int) -> set[int]:
    """A tensor and those that it was put together of, by calls that leave the values as they are."""
    seen, todo = {tensor}, [tensor]
    while todo and len(seen) < _FOLLOWED:
        op = maker(index, todo.pop())
        if op >= 0 and called(index, op) in _HANDED_ON | {"detach", "data"} - {"sum", "neg"}:
            new = [one for one in index.uses.of(op) if one not in seen]
            seen.update(new)
            todo += new
    return seen
