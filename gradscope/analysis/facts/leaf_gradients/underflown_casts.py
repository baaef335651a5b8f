"""Leaves whose gradient was seen to become zero where it was put in float16: ``head(x).float()`` under autocast.

What goes back to a head is computed in float32, from a loss in float32, and is then what float16 may be too coarse for.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.underflown_halves import LOOKS, has_factors
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import Index

SMALLEST_SCALED = 2.0**-41
"""What a scale of 65536, with which a GradScaler begins, still lifts to what float16 holds."""


class UnderflownCast(NamedTuple):
    """Leaves of one model, with zeros alone for gradients."""

    leaves: list[int]
    largest: float
    """The largest gradient that became zero on the way to them, in all of the passes that were asked, without sign."""
    passes: list[PassLook]


def underflown_casts(
    index: Index, passes_of: Passes, looks: list[PassLook], told: frozenset[int]
) -> list[UnderflownCast]:
    """By the passes, the leaves that got zeros; but for those of which another cause is known."""
    if not any(look.underflown for look in looks):
        return []
    lost = {look.op: _lost(index, passes_of, look) for look in looks if look.vanished is not None}
    steps, groups = all_steps(index), dict[tuple[int, ...], UnderflownCast]()
    for leaf in {leaf: None for ways in lost.values() for leaf in ways}:
        passes = [look for look in looks if leaf in look.gradients]
        asked = [look for look in passes if look.op in lost]
        if leaf in told or len(asked) < LOOKS or not all(is_zero(look.gradients[leaf]) for look in passes):
            continue
        if not any(asked[0].op < step < asked[-1].op for step in steps):
            continue
        sizes = [lost[look.op].get(leaf, 0.0) for look in asked]
        if min(sizes) < SMALLEST_SCALED or not all(has_factors(index, passes_of, leaf, look) for look in asked):
            continue
        own = groups.setdefault(tuple(look.op for look in passes), UnderflownCast([], max(sizes), passes))
        own.leaves.append(leaf)
        groups[tuple(look.op for look in passes)] = own._replace(largest=max(own.largest, *sizes))
    return list(groups.values())


def _lost(index: Index, passes_of: Passes, look: PassLook) -> dict[int, float]:
    """The leaves that a pass leads to through such nodes alone: the largest gradient that became zero there."""
    variable, starts = index.recording.nodes.column("variable"), dict[int, float]()
    reached, todo = set[int](), list(index.root_nodes(look.op))
    while todo:
        node = todo.pop()
        if node in reached:
            continue
        reached.add(node)
        lost = (look.vanished or {}).get(node, frozenset()) if node in look.underflown else frozenset[int]()
        for place, one in enumerate(index.edges.of(node)):
            if one >= 0 and place in lost:
                starts[one] = max(look.underflown[node], starts.get(one, 0.0))
            elif one >= 0:
                todo.append(one)
    found: dict[int, float] = {}
    for start, size in starts.items():
        for node in passes_of.behind(start):
            if variable[node] >= 0 and node not in reached:
                found[variable[node]] = max(size, found.get(variable[node], 0.0))
    return found
