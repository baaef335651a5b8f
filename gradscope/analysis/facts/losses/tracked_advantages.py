"""Policy losses in which the advantage has a gradient: what trains the policy changes the critic as well."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, plain_name, tracked_uses
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_OF_PROBABILITY = AS_IT_IS | {"neg", "sum", "stack", "cat", "exp", "sub"}
_NORMALISED = AS_IT_IS | {"div", "truediv", "stack", "cat", "neg", "mul"}
_SQUARES = frozenset(("pow", "square", "mse_loss", "smooth_l1_loss", "huber_loss"))
_STEPS = 8
"""Calls from an advantage to the difference in it that are followed."""


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


def tracked_advantages(index: Index, passes: Passes) -> Iterator[TrackedAdvantage]:
    """The last one of each line, of products that a backward pass came through."""
    log_probs = set(index.calls_of(lambda name: name.endswith(".log_prob")))
    if not log_probs:
        return
    products = index.calls_of(lambda name: plain_name(name) == "mul")
    last = {index.op_statement[op]: op for op in products if op > min(log_probs)}
    nodes, walked = index.recording.tensors.column("node"), passes.first_walked_at
    for product in sorted(last.values()):
        taken, made = tracked_uses(index, product), index.tensors_made(product)
        if len(taken) != 2 or not made or nodes[made[0]] < 0 or walked[nodes[made[0]]] < 0:
            continue
        for probability, advantage in (taken, taken[::-1]):
            if maker(index, below(index, probability, _OF_PROBABILITY)) in log_probs:
                found = _of_product(index, passes, product, advantage)
                if found is not None:
                    yield found


def _of_product(index: Index, passes: Passes, product: int, advantage: int) -> TrackedAdvantage | None:
    """An advantage whose value of the critic a squared error trains as well."""
    tensor = advantage
    for _ in range(_STEPS):
        tensor = below(index, tensor, _NORMALISED)
        op = maker(index, tensor)
        if op < 0 or called(index, op) not in ("sub", "add"):
            return None
        uses, taken = list(index.uses.of(op)), tracked_uses(index, op)
        if len(uses) == 2 and called(index, op) == "sub" and uses[1] in taken and not _is_statistic(index, uses[1]):
            squared = _squared(index, passes, [tensor, uses[1]])
            leaves = _leaves(index, passes, uses[1])
            return TrackedAdvantage(product, advantage, op, squared, leaves) if squared >= 0 and leaves else None
        if not taken:
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
