"""Losses to which what an optimizer holds leads only through another optimizer's step, where every graph ends.

A bilevel loop: the training loss leads to weights and to a hyperparameter, an optimizer steps the weights, and the loss
on other data is computed with them. Its pass gives gradients to the weights alone; what is there for the
hyperparameter's step is the gradient of the training loss, or nothing, once that was cleared.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_ROUNDS = 2
"""Rounds of which each was so from which on it is told."""


class EndsAtStep(NamedTuple):
    """One optimizer, in its last round."""

    leaves: list[int]
    """What it holds that the earlier pass gave gradients."""
    given: int
    """The pass that gave them gradients."""
    inner: int
    """The step of the weights that this pass had given gradients too."""
    outer: int
    """The pass from what was computed with those weights then: it gave nothing to what the optimizer holds, and no
    step applied what it gave to others."""
    step: int
    """The optimizer's own step, right after it."""
    cleared: int
    """What cleared the gradients of the first pass before that step; NONE where the step applied them."""
    rounds: int


def ends_at_steps(index: Index, lives: GradientLives, optimizers: list[Optimizer]) -> Iterator[EndsAtStep]:
    """One of each optimizer all of whose steps, and several, were so."""
    given: dict[int, set[int]] = {}
    for tensor, passes in lives.passes.items():
        for op in passes:
            given.setdefault(op, set()).add(tensor)
    steps, passes = index.of_kind(OpKind.STEP), sorted(index.roots)
    for optimizer in optimizers:
        own = _steps_of(index, optimizer, optimizers, steps)
        found, before = [], NONE
        for step in own:
            one = _round(index, lives, given, passes, steps, optimizer.tensors, before, step)
            if one is None:
                break
            found.append(one)
            before = step
        else:
            if len(found) >= _ROUNDS:
                yield found[-1]._replace(rounds=index.times(own))


def _steps_of(index: Index, optimizer: Optimizer, optimizers: list[Optimizer], steps: list[int]) -> list[int]:
    """An optimizer's steps: those of its class that took what it holds; of one that never did so, those that no other
    optimizer can have made."""
    named = [op for op in steps if index.func(op) == f"{optimizer.name}.step" and op >= optimizer.made.op]
    own = [op for op in named if not optimizer.tensors.isdisjoint(index.uses.of(op))]
    if own:
        return own
    is_alone = sum(one.name == optimizer.name for one in optimizers) == 1
    taken = {index.op_statement[op] for op in named if index.uses.of(op)}
    empty = [op for op in named if not index.uses.of(op) and index.op_statement[op] not in taken]
    return empty if is_alone or len({index.op_statement[op] for op in empty}) == 1 else []


def _round(
    index: Index,
    lives: GradientLives,
    given: dict[int, set[int]],
    passes: list[int],
    steps: list[int],
    held: frozenset[int],
    before: int,
    step: int,
) -> EndsAtStep | None:
    outer = last_before(passes, step)
    reached = given.get(outer, set())
    if outer <= before or not reached or not reached.isdisjoint(held) or not _is_backward(index, outer):
        return None
    if not all(_is_unused(index, lives, tensor, outer) for tensor in reached):
        return None
    earlier = [op for op in passes[bisect_left(passes, before + 1) : bisect_left(passes, outer)] if given.get(op)]
    for first in reversed(earlier):
        leaves = sorted(given[first] & held)
        between = [op for op in steps if first < op < outer and held.isdisjoint(index.uses.of(op))]
        inner = next((op for op in between if not given[first].isdisjoint({*index.uses.of(op)} & reached)), NONE)
        made = [index.made_by(root) for root in index.roots[outer]]
        if not leaves or inner < 0 or not made or min(made) < inner:
            continue
        if any(put for leaf in leaves for put in lives.put.get(leaf, ()) if first < put < step):
            return None
        cleared = max(last_before(lives.cleared.get(leaf, []), step) for leaf in leaves)
        return EndsAtStep(leaves, first, inner, outer, step, cleared if cleared > first else NONE, 1)
    return None


def _is_backward(index: Index, op: int) -> bool:
    return index.recording.ops.column("kind")[op] == OpKind.BACKWARD


def _is_unused(index: Index, lives: GradientLives, tensor: int, op: int) -> bool:
    """Whether no step applied what a pass gave a tensor, and nothing read or changed it."""
    gone, used = first_after(lives.cleared.get(tensor, []), op), first_after(lives.steps.get(tensor, []), op)
    if used >= 0 and not op < gone < used:
        return False
    until, kinds = gone if gone >= 0 else index.op_count, index.recording.ops.column("kind")
    reads = [user for user in index.users.of(tensor) if kinds[user] == OpKind.READ_GRAD]
    return not any(op < user < until for user in (*reads, *lives.put.get(tensor, ())))
