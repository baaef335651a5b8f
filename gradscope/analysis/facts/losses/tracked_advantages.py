"""Policy losses in which the advantage has a gradient: what trains the policy changes the critic as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, plain_name, tracked_uses
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_OF_PROBABILITY = AS_IT_IS | {"neg", "sum", "stack", "cat", "exp", "sub", "add", "mean"}
"""Calls that leave the logarithm of a probability one, add several, or make a ratio of probabilities of it."""
_PICKS = frozenset(("gather", "take_along_dim", "index_select", "__getitem__", "getitem"))
_OF_LABELS = frozenset(("cross_entropy", "nll_loss"))
"""Losses that are the negative logarithm of the probability of what they are given."""
_NORMALISED = AS_IT_IS | {"div", "truediv", "stack", "cat", "neg", "mul"}
_SQUARES = frozenset(("pow", "square", "mse_loss", "smooth_l1_loss", "huber_loss"))
_STEPS = 8
"""Calls from an advantage to the difference in it that are followed."""
_SUMMED = 64
"""Calls that are followed from the sum of the log-probabilities of an episode."""


class TrackedAdvantage(NamedTuple):
    """One product of a log-probability and an advantage."""

    product: int
    advantage: int
    """The tensor."""
    difference: int
    """The op that took the critic's value off."""
    squared: int
    """The op of the critic's own loss."""
    leaves: list[int]
    """Behind the value."""


def tracked_advantages(index: Index, passes: Passes, lives: GradientLives) -> Iterator[TrackedAdvantage]:
    """The last one of each line, of products that a backward pass came through."""
    products = index.calls_of(lambda name: plain_name(name) == "mul")
    last = {index.op_statement[op]: op for op in products}
    nodes, walked = index.recording.tensors.column("node"), passes.first_walked_at
    for product in sorted(last.values()):
        taken, made = tracked_uses(index, product), index.tensors_made(product)
        if len(taken) != 2 or not made or nodes[made[0]] < 0 or walked[nodes[made[0]]] < 0:
            continue
        for probability, advantage in (taken, taken[::-1]):
            if _is_of_probability(index, probability):
                found = _of_product(index, passes, product, advantage)
                if found is not None and (leaves := _moved(lives, found.leaves, walked[nodes[made[0]]])):
                    yield found._replace(leaves=leaves)


def _is_of_probability(index: Index, tensor: int) -> bool:
    """Whether a tensor is the logarithm of the probability of what was chosen, a sum of such ones, or a ratio."""
    todo, seen, is_picked = [tensor], {tensor}, False
    while todo and len(seen) < _SUMMED:
        op = maker(index, todo.pop())
        name = called(index, op) if op >= 0 else ""
        is_picked = is_picked or name in _PICKS
        if name == "log_prob" or name in _OF_LABELS or (is_picked and _is_of_softmax(index, op, name)):
            return True
        if name in _OF_PROBABILITY or name in _PICKS:
            new = [one for one in tracked_uses(index, op) if one not in seen]
            todo += new
            seen.update(new)
    return False


def _is_of_softmax(index: Index, op: int, name: str) -> bool:
    taken = tracked_uses(index, op)
    if name == "log" and taken:
        made = maker(index, below(index, taken[0], AS_IT_IS | _PICKS))
        return made >= 0 and called(index, made) == "softmax"
    return name == "log_softmax"


def _moved(lives: GradientLives, leaves: list[int], backward: int) -> list[int]:
    """Of some leaves those whose gradient of a pass was not cleared before a step could take it."""
    found = []
    for leaf in leaves:
        cleared, stepped = (first_after(ops.get(leaf, []), backward) for ops in (lives.cleared, lives.steps))
        if backward in lives.passes.get(leaf, []) and (cleared < 0 or 0 <= stepped < cleared):
            found.append(leaf)
    return found


def _of_product(index: Index, passes: Passes, product: int, advantage: int) -> TrackedAdvantage | None:
    """An advantage whose value of the critic a squared error trains as well."""
    tensor = advantage
    for _ in range(_STEPS):
        tensor = below(index, tensor, _NORMALISED)
        op = maker(index, tensor)
        if op < 0 or called(index, op) not in ("sub", "add"):
            return None
        uses, taken = list(index.uses.of(op)), tracked_uses(index, op)
        if not taken:
            return None
        if called(index, op) == "sub" and not _is_statistic(index, uses[-1]):
            value = uses[-1] if uses[-1] in taken else uses[0]  # (a return that is a number is no tensor)
            # (each loss may have a view of its own of what the critic gave)
            squared = _squared(index, passes, [tensor, value, below(index, value, AS_IT_IS)])
            leaves = _leaves(index, passes, value)
            if squared >= 0 and leaves:
                return TrackedAdvantage(product, advantage, op, squared, leaves)
            if len(uses) > 1:
                return None
        tensor = taken[0]
    return None


def _is_statistic(index: Index, tensor: int) -> bool:
    op = maker(index, tensor)
    return op >= 0 and called(index, op) in ("mean", "std", "var")


def _squared(index: Index, passes: Passes, tensors: list[int]) -> int:
    """The op of a squared error, through which a pass came, that takes one of some tensors or their difference."""
    nodes = index.recording.tensors.column("node")
    seen, todo = set(tensors), list(tensors)
    while todo:
        for op in index.users.of(todo.pop()):
            made = [one for one in index.tensors_made(op) if nodes[one] >= 0]
            name = called(index, op)
            if not made:
                continue
            if name in _SQUARES and passes.first_walked_at[nodes[made[0]]] >= 0:
                return op
            if name in AS_IT_IS or name in ("sub", "stack", "cat"):
                todo += [one for one in made if one not in seen]
                seen.update(made)
    return NONE


def _leaves(index: Index, passes: Passes, tensor: int) -> list[int]:
    return sorted(passes.leaves_behind(index.recording.tensors.column("node")[tensor]))
