"""Gradients of all columns of a result at once that were stretched over as many columns.

``autograd.grad(out, t, torch.ones_like(out))`` of ``(N, k)`` with respect to ``(N, 1)`` gives ``(N, 1)``: the sum of
the derivatives of the ``k`` columns. Taken from a right-hand side of ``(N, k)`` it is set against each of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.shapes import shape_of
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import OpKind

_ONES = re.compile(r"torch\.(ones_like|ones|full_like|full)")
_COMBINES = frozenset(("sub", "rsub", "add", "sub_", "add_"))
"""What sets one tensor against another; by a product the gradient may scale all columns on purpose."""
_LOSSES = frozenset(("F.mse_loss", "F.l1_loss", "F.smooth_l1_loss", "F.huber_loss"))
_SCALES = frozenset(("mul", "div", "neg", "mul_", "div_", "clone", "contiguous", "to", "float", "double", "squeeze"))
_FOLLOWED = 24
"""Tensors that are looked at on the way from a gradient to what it is set against."""


class BroadcastGradient(NamedTuple):
    """One call of ``autograd.grad``, and where its result was stretched over the columns."""

    grad: int
    columns_of: int
    """The tensor with several columns."""
    given: int
    """The gradient that the call gave."""
    columns: int
    combined: int
    """The call that stretched it."""
    other: int
    """What it was set against there."""
    is_of_one_too: bool
    """Whether the same call is made for one column as well: it is right there."""


def broadcast_gradients(index: Index) -> Iterator[BroadcastGradient]:
    """The last such pass of each call that made a graph, so that its result is part of a loss."""
    kinds, spans = (index.recording.ops.column(name) for name in ("kind", "span"))
    passes = [op for op in index.creating_graphs if kinds[op] == OpKind.GRAD and len(index.roots[op]) == 1]
    added_up = {op: several for op in sorted(passes) if (several := _added_up(index, op, index.roots[op][0])) >= 0}
    finder, found, of_one = _Finder(index, added_up), dict[int, BroadcastGradient](), set[int]()
    for op, several in reversed(added_up.items()):
        shape = shape_of(index, several)
        if len(shape) < 2 or shape[-1] == 1:
            of_one.add(spans[op])
        elif spans[op] not in found and (one := finder.find(op, several)) is not None:
            found[spans[op]] = one
    for span, one in found.items():
        yield one._replace(is_of_one_too=span in of_one)


def _added_up(index: Index, op: int, root: int) -> int:
    """The tensor whose elements were added up by a pass: its root, given ones, or what the root is the sum of."""
    made, shape = index.recording.tensors.column("op"), shape_of(index, root)
    if shape:
        alike = [one for one in index.uses.of(op) if one != root and shape_of(index, one) == shape]
        return root if any(_ONES.fullmatch(index.func(made[one])) for one in alike) else NONE
    taken = list(index.uses.of(made[root])) if index.method(made[root]) == "Tensor.sum" else []
    return taken[0] if len(taken) == 1 else NONE


class _Finder:
    def __init__(self, index: Index, added_up: dict[int, int]) -> None:
        self._index = index
        self._derived: dict[int, list[int]] = {}
        for op, tensor in added_up.items():
            self._derived.setdefault(tensor, []).append(op)

    def find(self, op: int, several: int) -> BroadcastGradient | None:
        shape = shape_of(self._index, several)
        for given in self._index.tensors_made(op):
            if shape_of(self._index, given) == (*shape[:-1], 1):
                stretched = self._stretched_at(given, shape)
                if stretched is not None:
                    return BroadcastGradient(op, several, given, shape[-1], *stretched, False)
        return None

    def _stretched_at(self, given: int, shape: tuple[int, ...]) -> tuple[int, int] | None:
        """The call that set a gradient, or a multiple of it, against all columns, and the tensor with these.

        A sum with a tensor that is no gradient is not followed: ``latent - rate * gradient`` is a step down the sum
        that is meant, and what is made of the new latent may have columns.
        """
        index, narrow = self._index, (*shape[:-1], 1)
        followed, todo = {given}, [given]
        while todo and len(followed) < _FOLLOWED:
            tensor = todo.pop(0)
            new = [made for op in self._derived.get(tensor, ()) for made in index.tensors_made(op)]
            for op in index.users.of(tensor):
                taken, name = list(index.uses.of(op)), index.method(op).rpartition(".")[2]
                others = [one for one in taken if one not in followed]
                combines = name in _COMBINES or index.func(op) in _LOSSES
                if combines and len(taken) == 2 and len(others) == 1 and shape_of(index, others[0]) == shape:
                    return op, others[0]
                if name in _SCALES or (combines and not others):
                    new += index.tensors_made(op)
            fits = [one for one in new if one not in followed and shape_of(index, one) == narrow]
            followed.update(fits)
            todo += fits
        return None
