"""Copies of a gradient that one helper takes after each of its passes, and the products of one with the next.

``ref @ grad`` of a projection: nothing cleared ``.grad`` between the two calls, so that the later copy has the earlier
gradient in it. Where a step applies what has piled up as it is, or the copies are subtracted first, that is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, ops_between
from gradscope.analysis.index import Index

_PRODUCTS = frozenset(
    f"Tensor.{name}"
    for name in ("dot", "vdot", "inner", "matmul", "__matmul__", "mm", "mv", "mul", "cosine_similarity")
)
_KEEPS = frozenset(f"Tensor.{name}" for name in ("clone", "detach", "flatten", "reshape", "view", "cat", "unsqueeze"))
"""Calls that give the same values."""
_REPLACES = frozenset(("Tensor.grad.__set__", "Tensor.copy_"))


class MultipliedCopies(NamedTuple):
    """Two copies of one leaf's gradient."""

    leaf: int
    passed: int
    """The pass that added to what the earlier copy was taken of."""
    taken: int
    """The call that began the later copy."""
    product: int


def multiplied_copies(index: Index, lives: GradientLives) -> Iterator[MultipliedCopies]:
    """One for each leaf and pair of passes."""
    of_leaf: dict[int, list[int]] = {}
    for gradient, leaf in lives.owners.items():
        of_leaf.setdefault(leaf, []).append(gradient)
    for leaf, gradients in of_leaf.items():
        passes = lives.passes.get(leaf, [])
        for earlier, later in pairwise(passes):
            is_one = index.op_statement[earlier] == index.op_statement[later] and lives.was_added(leaf, later)
            if not is_one or _is_touched(lives, leaf, earlier, later) or _is_applied(index, lives, leaf, later):
                continue
            until = first_after(passes, later)
            first, _ = _copies(index, gradients, earlier, later)
            second, taken = _copies(index, gradients, later, until if until >= 0 else index.op_count)
            product = _combined(index, first, second)
            is_by_caller = product >= 0 and _function(index, product) != _function(index, later)
            if is_by_caller and index.method(product) in _PRODUCTS:
                yield MultipliedCopies(leaf, later, taken[0], product)


def _is_touched(lives: GradientLives, leaf: int, earlier: int, later: int) -> bool:
    kinds = (lives.cleared, lives.put, lives.steps)
    return any(ops_between(kind.get(leaf, []), earlier, later) for kind in kinds)


def _is_applied(index: Index, lives: GradientLives, leaf: int, later: int) -> bool:
    """Whether a step takes what has piled up, and nothing put another gradient there before."""
    step = first_after(lives.steps.get(leaf, []), later)
    if step < 0 or ops_between(lives.cleared.get(leaf, []), later, step):
        return False
    return not any(index.method(op) in _REPLACES for op in ops_between(lives.put.get(leaf, []), later, step))


def _copies(index: Index, gradients: list[int], passed: int, until: int) -> tuple[set[int], list[int]]:
    """The copies that the function which ran a pass took of the gradient, and the calls that began them."""
    storages, function = index.recording.tensors.column("storage"), _function(index, passed)
    own = {storages[gradient] for gradient in gradients}
    users = (op for gradient in gradients for op in index.users.of(gradient))
    begun = sorted(op for op in users if passed < op < until and _function(index, op) == function)
    copies, todo, seen = set[int](), list(begun), set[int]()
    while todo:
        op = todo.pop()
        if op in seen or index.method(op) not in _KEEPS:
            continue
        seen.add(op)
        for made in index.tensors_made(op):
            if storages[made] not in own and not index.has_one_element(made):
                copies.add(made)
            todo += index.users.of(made)
    return copies, begun


def _function(index: Index, op: int) -> tuple[int, str]:
    """The file and the function of a call; of one in a comprehension the function around that."""
    file, name = index.function_of(op)
    return file, index.recording.text(name).partition(".<locals>.<")[0]


def _combined(index: Index, first: set[int], second: set[int]) -> int:
    """The first call that takes a copy of each; -1 for none."""
    of_first = {op for one in first for op in index.users.of(one)}
    return min(of_first.intersection(op for one in second for op in index.users.of(one)), default=-1)
