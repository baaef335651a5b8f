"""Gradients that get smaller from layer to layer, through calls of sigmoid or tanh, until next to nothing is left."""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.facts.value_looks import PassLook
from gradscope.analysis.index import Index
from gradscope.recording.flags import PARAMETER

LOOKS = 3
"""Passes that are looked at, in each of which it was so, from which on it is told."""
_NOTHING = 1e-9
"""The part of the largest gradient of a weight below which another one is next to nothing."""
_SMALLER = 1e-2
_AT_LEAST = 2
"""Weights that get next to nothing, and weights between those and the largest: it goes step by step."""
_CALLS = 6
_FLATTEN = {"SigmoidBackward0": "sigmoid", "TanhBackward0": "tanh"}


class VanishingWay(NamedTuple):
    """What was seen of it in the last pass that was looked at."""

    op: int
    """The pass."""
    weights: list[int]
    """Those that get next to nothing, the smallest first."""
    largest: int
    sizes: tuple[float, float]
    """The norms of the gradients of the first of the weights and of the largest."""
    function: str
    calls: list[int]
    """Its calls in the graph."""
    looks: list[PassLook]


def vanishing_way(index: Index, passes: Passes, looks: list[PassLook]) -> VanishingWay | None:
    """Weights of one model whose gradients are next to nothing beside the others' in all passes that were looked at."""
    looks = [look for look in looks if look.norms]
    if len(looks) < LOOKS:
        return None
    parts = [_parts(index, look) for look in looks]
    if not all(parts):
        return None
    weights = set.intersection(*({leaf for leaf, part in one.items() if part < _NOTHING} for one in parts))
    weights = {leaf for leaf in weights if any(one[leaf] for one in parts)}  # (else see gradient-always-zero)
    between = set.intersection(*({one for one, part in of.items() if _NOTHING <= part < _SMALLER} for of in parts))
    if len(weights) < _AT_LEAST or len(between) < _AT_LEAST:
        return None
    last, nodes = looks[-1], index.recording.nodes
    names, made_by = nodes.column("name"), nodes.column("op")
    calls: dict[str, set[int]] = {}
    for root in index.root_nodes(last.op):
        for node in (root, *passes.behind(root)):
            if (name := index.recording.text(names[node])) in _FLATTEN:
                calls.setdefault(_FLATTEN[name], set()).add(made_by[node])
    most = max(calls, key=lambda name: len(calls[name]), default="")
    if not most or len(calls[most]) < _CALLS:
        return None
    in_order = sorted(weights, key=last.norms.__getitem__)
    largest = max(parts[-1], key=last.norms.__getitem__)
    sizes = last.norms[in_order[0]], last.norms[largest]
    return VanishingWay(last.op, in_order, largest, sizes, most, sorted(calls[most]), looks)


def _parts(index: Index, look: PassLook) -> dict[int, float]:
    """The norms of the gradients of weights, as parts of the largest."""
    flags = index.recording.tensors.column("flags")
    norms = {
        leaf: norm
        for leaf, norm in look.norms.items()
        if flags[leaf] & PARAMETER and len(shape_of(index, leaf)) > 1 and norm < float("inf")
    }
    most = max(norms.values(), default=0.0)
    return {leaf: norm / most for leaf, norm in norms.items()} if most else {}
