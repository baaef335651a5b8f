"""Parameters that the program multiplies, in their own memory, by what it draws anew before each step.

DropConnect leaves the weights as they are and computes with a masked copy. Where the mask is written into the weights
nothing brings back what one draw took away. No loss is it where the program writes the values back before the step, or
draws the same numbers again, by a generator of its own.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.derivatives.drawn_factors import DRAWS
from gradscope.analysis.facts.memory_writes.changed_leaves import changed_leaves
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.index import Index
from gradscope.recording.flags import EXTERNAL, PARAMETER

STEPS = 4
"""Steps, before each of which it was done, from which on it counts."""
_MASKS = frozenset(("mul", "mul_", "masked_fill", "masked_fill_", "where", "dropout", "dropout_", "alpha_dropout"))
_DEPTH = 40


class DrawnMask(NamedTuple):
    """One parameter."""

    tensor: int
    writes: tuple[int, ...]
    """The calls that wrote into it, or put it on other memory: the last before each step."""
    draws: int
    """The call that drew last."""


def drawn_masks(index: Index, lives: GradientLives) -> list[DrawnMask]:
    """Every parameter that was multiplied by something drawn anew before each step but the first."""
    if not index.calls_of(lambda func: _last(func) in DRAWS):
        return []
    changed, flags, found = changed_leaves(index, lives), index.recording.tensors.column("flags"), list[DrawnMask]()
    for leaf, steps in lives.steps.items():
        changes = changed.get(leaf, [])
        if not flags[leaf] & PARAMETER or len(steps) <= STEPS or len(changes) < STEPS:
            continue
        known = [_between(index, leaf, changes, step, following) for step, following in pairwise(steps)]
        masked = [one for one in known if one is not None]
        if len(masked) == len(known) and not any("generator" in index.span_source(draws) for _, draws in masked):
            found.append(DrawnMask(leaf, tuple(write for write, _ in masked), masked[-1][1]))
    return found


def _between(
    index: Index, leaf: int, changes: list[tuple[int, int]], step: int, following: int
) -> tuple[int, int] | None:
    """The last write between two steps that masked a leaf, and the draw; None where one did something else to it."""
    since = changes[bisect_right(changes, (step + 1, -2)) : bisect_right(changes, (following, -2))]
    found = None
    for op, value in since:
        own = index.storage_at(leaf, op - 1)
        draws = _masked(index, op, own, step) if value < 0 else _value_masked(index, value, own, step)
        if draws is not None:
            found = op, draws
        elif value >= 0 or any(index.storage_at(one, op - 1) != own for one in index.uses.of(op)):
            return None  # (it took other values: those from before, say)
    return found


def _value_masked(index: Index, value: int, own: int, step: int) -> int | None:
    """The draw by which a value was masked that takes the place of what is on a memory block."""
    made = index.made_by(value)
    for _ in range(2):  # (``weight * mask / keep``)
        if not step < made < index.op_count:
            return None
        draws = _masked(index, made, own, step)
        taken = index.uses.of(made)
        if draws is not None or len(taken) != 1:
            return draws
        made = index.made_by(taken[0])
    return None


def _masked(index: Index, op: int, own: int, step: int) -> int | None:
    """The draw, of a call that multiplies what is on a memory block by something drawn since a step; else None."""
    name, taken = _last(index.method(op)), list(index.uses.of(op))
    others = [one for one in taken if index.storage_at(one, op - 1) != own]
    if name not in _MASKS or len(others) == len(taken):
        return None
    if name in DRAWS:  # (dropout draws itself)
        return op
    draws = [_drawn(index, one, own, step) for one in others]
    return max((one for one in draws if one is not None), default=None)


def _drawn(index: Index, tensor: int, own: int, step: int) -> int | None:
    """The call since a step that drew what a tensor was made of, if the values of a memory block are no part of it."""
    flags, found = index.recording.tensors.column("flags"), None
    stack, seen = [tensor], set[int]()
    while stack:
        one = stack.pop()
        made = index.made_by(one)
        if one in seen or flags[one] & EXTERNAL or not step < made < index.op_count:
            continue
        seen.add(one)
        written = [op for op in index.users.of(one) if _last(index.func(op)) in DRAWS and op > step]
        if _last(index.func(made)) in DRAWS:
            found = max(made, found or made)
            continue
        if written:  # (``torch.empty_like(weight).bernoulli_(keep)``)
            found = max(written[0], found or written[0])
            continue
        taken = index.uses.of(made)
        if len(seen) > _DEPTH or any(index.storage_at(use, made) == own for use in taken):
            return None
        stack += taken
    return found


def _last(func: str) -> str:
    return func.rpartition(".")[2]
