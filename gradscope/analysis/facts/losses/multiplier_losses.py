"""Losses of a multiplier (a temperature, a Lagrange multiplier) that train what it multiplies as well.

``alpha.detach() * log_pi`` is there for the policy, and ``-(alpha * (log_pi + target))`` for alpha. Where log_pi is not
detached in the second, its gradient takes back what the first one gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, ops_between
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_CUTS = ("Tensor.detach", "Tensor.data.__get__")
_PRODUCT = "Tensor.mul"
_SHIFTS = re.compile(r"(Tensor|torch)\.(__)?r?(add|sub|neg|subtract|negative)(__)?")
_ONE = re.compile(r"\((1(, 1)*,?)?\)")
_DEPTH = 5
_NEAR = 5_000
"""Ops between the two products: they are of one round."""


class MultiplierLoss(NamedTuple):
    """The last pass of one."""

    multiplier: int
    """The leaf that it is made of."""
    product: int
    """The op that multiplies it, with its graph, by what has a graph as well."""
    factor: int
    """What the other factor there was made of, by adding what has no gradient."""
    detached: int
    """The op of the product that takes it detached."""
    trained: tuple[int, ...]
    """Leaves behind the factor that an optimizer then stepped."""
    at: int
    """The pass."""


def multiplier_losses(index: Index, passes: Passes, lives: GradientLives) -> Iterator[MultiplierLoss]:
    """One for each statement of a product."""
    found: dict[int, MultiplierLoss] = {}
    for op in index.calls_of_methods(*_CUTS):
        for one in _of_cut(index, passes, lives, op):
            found[index.op_statement[one.product]] = one
    yield from found.values()


def _of_cut(index: Index, passes: Passes, lives: GradientLives, cut: int) -> Iterator[MultiplierLoss]:
    taken = list(index.uses.of(cut))
    if len(taken) != 1 or not _is_one(index, taken[0]) or not index.requires_grad(taken[0], cut):
        return
    leaf = _leaf_of(index, passes, taken[0])
    if leaf < 0 or leaf not in lives.steps:
        return
    for detached in index.tensors_made(cut):
        for first in (op for op in index.users.of(detached) if index.method(op) == _PRODUCT):
            base = _unshifted(index, _other(index, first, detached), first)
            pass_of_first = _walked(index, passes, first)
            until = index.op_count if pass_of_first < 0 else pass_of_first
            for second, factor in _products(index, leaf, until) if base >= 0 and pass_of_first >= 0 else ():
                at = _walked(index, passes, second)
                if at < 0 or _unshifted(index, factor, second) != base:
                    continue
                if trained := _trained(index, passes, lives, factor, at):
                    yield MultiplierLoss(leaf, second, base, first, trained, at)


def _is_one(index: Index, tensor: int) -> bool:
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    return _ONE.fullmatch(index.recording.text(layout.shape)) is not None


def _leaf_of(index: Index, passes: Passes, tensor: int) -> int:
    """The only leaf that a tensor was made from, of one element; NONE for others."""
    node = index.recording.tensors.column("node")[tensor]
    if node < 0:
        return tensor if index.is_leaf(tensor) else NONE
    leaves = passes.leaves_behind(node)
    leaf = leaves.pop() if len(leaves) == 1 else NONE
    return leaf if leaf >= 0 and _is_one(index, leaf) else NONE


def _other(index: Index, product: int, factor: int) -> int:
    """The other factor of a product of two, where it requires grad; NONE else."""
    others = [one for one in index.uses.of(product) if one != factor]
    return others[0] if len(others) == 1 and index.requires_grad(others[0], product) else NONE


def _unshifted(index: Index, tensor: int, before: int) -> int:
    """What a tensor was made of by adding and subtracting what has no gradient; itself where by nothing of that."""
    made_at = index.recording.tensors.column("op")
    for _ in range(_DEPTH):
        op = made_at[tensor] if tensor >= 0 else before
        if op >= before or not _SHIFTS.fullmatch(index.func(op)) or tensor not in index.tensors_made(op):
            break
        tracked = [one for one in index.uses.of(op) if index.requires_grad(one, op)]
        if len(tracked) != 1:
            break
        tensor = tracked[0]
    return tensor


def _walked(index: Index, passes: Passes, op: int) -> int:
    nodes = index.recording.tensors.column("node")
    return max((passes.first_walked_at[nodes[one]] for one in index.tensors_made(op) if nodes[one] >= 0), default=NONE)


def _products(index: Index, leaf: int, near: int) -> Iterator[tuple[int, int]]:
    """The products of what is made of a leaf of one element alone with something else that requires grad."""
    todo, seen = [(leaf, _DEPTH)], {leaf}
    while todo:
        tensor, depth = todo.pop()
        for op in index.users.of(tensor):
            if abs(op - near) > _NEAR:
                continue
            other = _other(index, op, tensor) if index.method(op) == _PRODUCT else NONE
            if other >= 0 and other not in seen:
                yield op, other
            for made in index.tensors_made(op) if depth and other < 0 else ():
                if made not in seen and _is_one(index, made) and index.requires_grad(made, op + 1):
                    seen.add(made)
                    todo.append((made, depth - 1))


def _trained(index: Index, passes: Passes, lives: GradientLives, factor: int, at: int) -> tuple[int, ...]:
    """The leaves behind a factor that got a gradient in a pass which the next step took."""
    node = index.recording.tensors.column("node")[factor]
    variables = index.recording.nodes.column("variable")
    leaves = dict.fromkeys(variables[one] for one in passes.behind(node) if variables[one] >= 0)
    return tuple(
        leaf
        for leaf in leaves
        if at in lives.passes.get(leaf, ())
        and (step := first_after(lives.steps.get(leaf, []), at)) >= 0
        and not ops_between(lives.cleared.get(leaf, []), at, step)
    )
