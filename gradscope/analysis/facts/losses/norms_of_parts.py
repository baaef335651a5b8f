"""Norms of parts of each sample's gradient that are held to a number, as the norm of all of it was to be.

A gradient penalty holds the slope of a score to one: the norm over all that a sample consists of. ``norm(2, dim=1)`` of
a gradient of ``(N, C, H, W)`` gives ``H * W`` norms for each of the N scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_NORMS = frozenset(("norm", "vector_norm"))
_SQUARES = frozenset(("pow", "__pow__", "square", "mul", "__mul__"))
_ROOTS = frozenset(("sqrt", "pow", "__pow__"))
_SUMS = frozenset(("sum", "mean"))
_SAME = frozenset(("add", "__add__", "__radd__", "clamp", "clamp_min", "contiguous", "squeeze"))
_TAKEN_FROM = frozenset(("sub", "__sub__", "rsub", "__rsub__"))
_ONES = frozenset(("ones_like", "ones", "full_like", "full"))
_LOSSES = frozenset(("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"))
_REDUCES = frozenset(("sum", "mean", "view", "reshape", "squeeze", "flatten"))
_FOLLOWED = 16
"""Tensors that are looked at on the way from a gradient to its norm."""


class NormsOfParts(NamedTuple):
    """One such penalty."""

    grad: int
    scores: int
    """The tensor with one value for each sample."""
    given: int
    """The gradient."""
    norm: int
    """The op that gives the norms."""
    norms: int
    """What it gives."""
    held: int
    """The op that sets these against a number."""
    samples: int


class _Followed(NamedTuple):
    tensor: int
    square: bool
    """Whether it has the squares of the gradient's elements, or sums of these."""
    summed: int
    """The op that added squares up; NONE before."""


def norms_of_parts(index: Index, passes: Passes) -> Iterator[NormsOfParts]:
    """The last one of each statement that takes norms, of those that a backward pass came through."""
    kinds, found = index.recording.ops.column("kind"), dict[int, NormsOfParts]()
    for op in sorted(index.creating_graphs):
        roots = index.roots.get(op, [])
        scores = _scores(index, roots[0]) if kinds[op] == OpKind.GRAD and len(roots) == 1 else NONE
        samples = prod(shape_of(index, scores)) if scores >= 0 else 0
        for given in index.tensors_made(op) if samples > 1 else ():
            shape = shape_of(index, given)
            if len(shape) > 2 and shape[0] == samples:
                one = _norms(index, given, samples)
                if one is not None and _is_used(index, passes, one[2]):
                    norm, norms, held = one
                    found[index.op_statement[norm]] = NormsOfParts(op, scores, given, norm, norms, held, samples)
    yield from found.values()


def _scores(index: Index, root: int) -> int:
    """What has the values that were added up; NONE where parts of a sample had values of their own before that."""
    made, scores, count = index.recording.tensors.column("op"), root, prod(shape_of(index, root))
    for _ in range(_FOLLOWED):
        op = made[root]
        taken = list(index.uses.of(op)) if op < index.op_count else []
        if len(taken) != 1 or index.method(op).rpartition(".")[2] not in _REDUCES:
            return scores
        (root,) = taken
        if prod(shape_of(index, root)) > count:
            if count > 1:
                return NONE
            scores, count = root, prod(shape_of(index, root))
    return NONE


def _norms(index: Index, given: int, samples: int) -> tuple[int, int, int] | None:
    """The op that takes norms of parts of each sample, these, and the op that holds them to a number."""
    todo, seen = [_Followed(given, False, NONE)], 0
    while todo and seen < _FOLLOWED:
        seen, one = seen + 1, todo.pop(0)
        for op in index.users.of(one.tensor):
            name, made = index.method(op).rpartition(".")[2], index.tensors_made(op)
            is_own = set(index.uses.of(op)) == {one.tensor} and len(made) == 1
            if not is_own:
                continue
            new = shape_of(index, made[0])
            is_part = new[:1] == (samples,) and samples < prod(new)
            if name in _NORMS and not one.square:
                if is_part and (held := _held(index, made[0])) >= 0:
                    return op, made[0], held
            elif name in _SUMS and one.square and one.summed < 0:
                todo += [one._replace(tensor=made[0], summed=op)] if is_part else []
            elif one.summed >= 0 and name in _ROOTS:
                if (held := _held(index, made[0])) >= 0:
                    return one.summed, made[0], held
            elif name in _SQUARES and not one.square:
                todo.append(one._replace(tensor=made[0], square=True))
            elif name in _SAME:
                todo.append(one._replace(tensor=made[0]))
    return None


def _held(index: Index, norms: int) -> int:
    """The op that sets norms against a plain number, or against ones; NONE where there is none."""
    made = index.recording.tensors.column("op")
    for op in index.users.of(norms):
        name, others = index.method(op).rpartition(".")[2], [one for one in index.uses.of(op) if one != norms]
        are_ones = all(index.method(made[one]).rpartition(".")[2] in _ONES for one in others if made[one] < op)
        if name in _TAKEN_FROM | _LOSSES and are_ones and (name in _TAKEN_FROM or others):
            return op
        if name in _SAME - {"add", "__add__", "__radd__"} and not others:
            return max((_held(index, one) for one in index.tensors_made(op)), default=NONE)
    return NONE


def _is_used(index: Index, passes: Passes, held: int) -> bool:
    """Whether a backward pass came through what was made of the norms."""
    nodes = (index.recording.tensors.column("node")[one] for one in index.tensors_made(held))
    return any(node >= 0 and passes.last_walked_at[node] >= 0 for node in nodes)
