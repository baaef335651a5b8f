"""Steps that a program computes of a gradient with a graph, from values of the weights that are cut off.

``w - lr * g`` of meta-learning leads back to the weights in two ways: through ``g``, and through ``w`` itself. Where
``w`` is taken from ``state_dict()``, ``.data`` or ``detach()``, only the way through the second derivative is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

_CUTS = re.compile(r"nn\.Module\.state_dict|Tensor\.(data\.__get__|detach|clone|__deepcopy__|to|float|contiguous)")
"""Calls that give the values of what they take, of which one at least cuts them off."""
_SUMS = re.compile(r"(Tensor|torch)\.(__)?[ri]?(add|sub|lerp|addcmul|subtract|_foreach_add|_foreach_sub)(__)?")
_DEPTH = 4
"""Calls through which a gradient is followed into the step, and the values of a weight back to it."""


class DetachedStart(NamedTuple):
    """A weight, in the last step that was computed so."""

    weight: int
    detached: int
    """The tensor that stands for it."""
    step: int
    """The op that computed the step."""
    asked: int
    """The pass that gave its gradient a graph."""
    outer: int
    """The later pass that went through the step and gave the weight a gradient."""


def detached_starts(index: Index, passes: Passes, lives: GradientLives) -> Iterator[DetachedStart]:
    """One of each weight that an optimizer then stepped."""
    flags, nodes = (index.recording.tensors.column(name) for name in ("flags", "node"))
    found: dict[int, DetachedStart] = {}
    for asked in index.of_kind(OpKind.GRAD):
        gradients = [one for one in index.tensors_made(asked) if nodes[one] >= 0]
        roots = index.roots.get(asked, ())
        weights = {
            index.storage_at(one, asked): one
            for one in index.uses.of(asked)
            if one not in roots and flags[one] & PARAMETER and index.is_leaf_with_grad(one, asked)
        }
        for step, detached in _sums_of(index, gradients) if weights else ():
            weight = _weight_of(index, detached, step, weights)
            made = [one for one in index.tensors_made(step) if nodes[one] >= 0]
            outer = max((passes.first_walked_at[nodes[one]] for one in made), default=NONE)
            is_trained = outer in lives.passes.get(weight, ()) and first_after(lives.steps.get(weight, []), outer) >= 0
            if outer > step and is_trained:
                found[weight] = DetachedStart(weight, detached, step, asked, outer)
    yield from found.values()


def _sums_of(index: Index, gradients: list[int]) -> Iterator[tuple[int, int]]:
    """The calls that take what was made of gradients from a tensor that does not require grad, or add it in a measure.

    A plain sum of both is no step (``(g + w.detach()).pow(2)`` is a penalty). Each with the tensor.
    """
    todo, seen = [(one, _DEPTH) for one in gradients], set(gradients)
    while todo:
        tensor, depth = todo.pop()
        for op in index.users.of(tensor):
            if op in index.roots or index.recording.ops.column("kind")[op] != OpKind.CALL:
                continue
            if _SUMS.fullmatch(index.func(op)):
                first = next(iter(index.uses.of(op)))
                if (depth < _DEPTH or first != tensor) and not index.requires_grad(first, op):
                    yield op, first
                continue
            for made in index.tensors_made(op) if depth else ():
                if made not in seen:
                    seen.add(made)
                    todo.append((made, depth - 1))


def _weight_of(index: Index, detached: int, step: int, weights: dict[int, int]) -> int:
    """The weight whose values a tensor has that is cut off from it; NONE where it is no weight's."""
    made_at, one = index.recording.tensors.column("op"), detached
    for _ in range(_DEPTH):
        weight = weights.get(index.storage_at(one, step), NONE)
        if weight >= 0:
            return weight if weight != detached else NONE
        op = made_at[one]
        if op >= index.op_count or not _CUTS.fullmatch(index.method(op)) or one not in index.tensors_made(op):
            return NONE
        taken = list(index.uses.of(op))
        if len(taken) != 1:
            return NONE
        one = taken[0]
    return NONE
