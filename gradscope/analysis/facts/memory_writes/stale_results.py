"""Results whose graph is walked again and again, while steps change the leaves that it was computed from.

``retain_graph=True`` keeps what the nodes saved. Where none of the changed weights was saved, autograd raises nothing:
each pass takes the values, and the derivatives at them, that the weights gave before the first step. A graph whose
nodes saved nothing needs no ``retain_graph``: nothing is missing when it is walked again. What lies on the memory of a
weight (``weight.t()``) has its values at all times.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
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
    is_freed: bool
    """The first pass freed its graph, in which nothing was saved."""


def stale_results(index: Index, passes: Passes, lives: GradientLives) -> Iterator[StaleResult]:
    """Each result that calls took after each of several steps, in the order in which they were made."""
    flags = index.recording.ops.column("flags")
    nodes, storages = (index.recording.tensors.column(name) for name in ("node", "storage"))
    for node, (first, retained) in enumerate(zip(passes.first_walked_at, passes.last_walked_at, strict=True)):
        tensor = index.node_tensor[node]
        users = index.users.of(tensor) if tensor >= 0 and first >= 0 else []
        if len(users) < STEPS or users[-1] <= first:
            continue
        is_freed = passes.used_up_at[node] == first
        last = max(_last_pass(index, passes, nodes, users) if is_freed else NONE, retained)
        if first == last or flags[last] & RAISED:
            continue
        uses = [op for op in users if first < op < last and index.op_statement[op] != NOWHERE]
        if len(uses) < STEPS:
            continue
        leaves = [index.recording.nodes.column("variable")[one] for one in passes.behind(node)]
        others = [leaf for leaf in leaves if leaf >= 0 and storages[leaf] != storages[tensor]]
        by_step = {step: leaf for leaf in others for step in lives.steps.get(leaf, ()) if first < step < uses[-1]}
        steps = sorted(by_step)
        followed = {bisect_right(steps, op) - 1 for op in uses} - {-1}
        if len(followed) >= STEPS:
            changing = tuple(steps[at] for at in sorted(followed))
            yield StaleResult(tensor, first, last, changing, by_step[changing[-1]], is_freed)


def _last_pass(index: Index, passes: Passes, nodes: Sequence[int], users: Sequence[int]) -> int:
    """The last pass that came through what some calls made."""
    made = (nodes[one] for op in users for one in index.tensors_made(op))
    return max((passes.last_walked_at[node] for node in made if node >= 0), default=NONE)
