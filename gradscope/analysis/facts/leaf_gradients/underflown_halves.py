"""Leaves whose gradient is computed in float16 and is zero, since nothing smaller than its smallest number is left.

That they underflowed is put together of what was seen: the leaf is used in float16, its gradient was zero whenever it
was looked at, what is multiplied on the way was not, and the gradients that come just before its own in the
same pass are none that float16 holds in full. A loss that is multiplied by a scale lifts them out of that.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.leaf_gradients.vanished_eps import dtype_of
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.value_looks import PassLook, is_zero
from gradscope.analysis.facts.writes import all_steps
from gradscope.analysis.index import Index
from gradscope.recording import NONE

LOOKS = 3
"""Passes in which it must have been so, with a step among them."""

SMALLEST_NORMAL = 2.0**-14
"""Of float16: below it, numbers have fewer digits the smaller they are."""


class Underflown(NamedTuple):
    """Leaves of one model, with zeros alone for gradients."""

    leaves: list[int]
    beside: list[int]
    """Those leaves whose gradients are the next that the same passes computed."""
    largest: float
    """The largest gradient of these in all of the passes, without its sign."""
    passes: list[PassLook]


def underflown_halves(index: Index, passes_of: Passes, looks: list[PassLook], told: frozenset[int]) -> list[Underflown]:
    """By the passes, the leaves that got zeros; but for those of which another cause is known."""
    looked_at: dict[int, list[PassLook]] = {}
    for look in looks:
        for leaf in look.gradients:
            looked_at.setdefault(leaf, []).append(look)
    steps = all_steps(index)
    groups: dict[tuple[int, ...], Underflown] = {}
    for leaf, passes in looked_at.items():
        if leaf in told or len(passes) < LOOKS or not all(is_zero(one.gradients[leaf]) for one in passes):
            continue
        if not any(passes[0].op < step < passes[-1].op for step in steps):
            continue
        beside = [_next_to(index, leaf, one) if has_factors(index, passes_of, leaf, one) else {} for one in passes]
        largest = max((abs(end) for one in beside for ends in one.values() for end in ends), default=0.0)
        if all(beside) and 0.0 < largest <= SMALLEST_NORMAL:
            own = groups.setdefault(tuple(one.op for one in passes), Underflown([], list(beside[-1]), largest, passes))
            own.leaves.append(leaf)
    return list(groups.values())


def _next_to(index: Index, leaf: int, look: PassLook) -> dict[int, tuple[float, float]]:
    """The gradients that are no zeros of the first call from a leaf's own on that has such ones, all in float16."""
    used = _used_at(index, leaf, look.op)
    if used < 0:
        return {}
    others = {one: _used_at(index, one, look.op) for one, ends in look.gradients.items() if not is_zero(ends)}
    first = min((op for op in others.values() if op >= used), default=NONE)
    return {one: look.gradients[one] for one, op in others.items() if op == first} if first >= 0 else {}


def _used_at(index: Index, leaf: int, before: int) -> int:
    """The last call that took a leaf before a pass, where it gave what is in float16 and requires grad; else NONE."""
    op = max((one for one in index.users.of(leaf) if one < before and index.tensors_made(one)), default=NONE)
    made = index.tensors_made(op) if op >= 0 else []
    is_one = made and index.requires_grad(made[0], before) and dtype_of(index, index.layout_at(made[0], op))
    return op if is_one == "float16" else NONE


def has_factors(index: Index, passes: Passes, leaf: int, look: PassLook) -> bool:
    """Whether it is known what the call that took a leaf multiplied, and that no factor on the way is zero."""
    made_by, used = index.recording.nodes.column("op"), _used_at(index, leaf, look.op)
    zeros = {one.node for one in look.kept if is_zero(one.values)}
    zeros |= {one.node for one in look.derivatives if is_zero(one.values)}
    is_known = any(made_by[one.node] == used for one in look.kept)
    return is_known and not any(leaf in passes.leaves_behind(node) for node in zeros)
