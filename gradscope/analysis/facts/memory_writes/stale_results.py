"""Results whose graph is walked again and again, while steps change the leaves that it was computed from.

``retain_graph=True`` keeps what the nodes saved. Where none of the changed weights was saved, autograd raises nothing:
each pass takes the values, and the derivatives at them, that the weights gave before the first step.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.gradient_lives import GradientLives
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording.flags import RAISED

STEPS = 3
"""Steps, each followed by a use of the result, from which on it is no matter of one iteration."""


class StaleResult(NamedTuple):
    """One result."""

    tensor: int
    first: int
    """The first pass (an op) that came through its node."""
    last: int
    """The last one."""
    steps: tuple[int, ...]
    """The steps between the two that changed a leaf behind it, and after which it was used."""
    leaf: int
    """One of these leaves."""


def stale_results(index: Index, passes: Passes, lives: GradientLives) -> Iterator[StaleResult]:
    """Each result that calls took after each of several steps, in the order in which they were made."""
    flags = index.recording.ops.column("flags")
    for node, (first, last) in enumerate(zip(passes.first_walked_at, passes.last_walked_at, strict=True)):
        tensor = index.node_tensor[node]
        if tensor < 0 or not 0 <= first < last or flags[last] & RAISED:
            continue
        uses = [op for op in index.users.of(tensor) if first < op < last and index.op_statement[op] != NOWHERE]
        if len(uses) < STEPS:
            continue
        leaves = [index.recording.nodes.column("variable")[one] for one in passes.behind(node)]
        by_step = {step: leaf for leaf in leaves for step in lives.steps.get(leaf, ()) if first < step < uses[-1]}
        steps = sorted(by_step)
        followed = {bisect_right(steps, op) - 1 for op in uses} - {-1}
        if len(followed) >= STEPS:
            yield StaleResult(
                tensor, first, last, tuple(steps[at] for at in sorted(followed)), by_step[steps[max(followed)]]
            )
