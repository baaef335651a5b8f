"""Gradients of all columns of a result at once that were stretched over as many columns.

``autograd.grad(out, t, torch.ones_like(out))`` of ``(N, k)`` with respect to ``(N, 1)`` gives ``(N, 1)``: the sum of
the derivatives of the ``k`` columns. Taken from a right-hand side of ``(N, k)`` it is set against each of them; and so
it is where one equation takes it with one column, and another equation with another.
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
_RESHAPES = frozenset(("unsqueeze", "view", "reshape", "__getitem__", "squeeze"))
_TAKES = frozenset(("__getitem__", "select", "narrow", "unbind", "chunk", "split", "tensor_split"))
"""What gives views of columns."""
_STEPS_BACK = 6
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
    combined: tuple[int, ...]
    """The call that stretched it; or two that took it with one column each."""
    other: int
    """What it was set against in the last of these."""
    is_of_one_too: bool
    """Whether the same call is made for one column as well: it is right there."""


def broadcast_gradients(index: Index) -> Iterator[BroadcastGradient]:
    """The last such pass of each call that made a graph, so that its result is part of a loss."""
    kinds, spans = (index.recording.ops.column(name) for name in ("kind", "span"))
    passes = [op for op in index.creating_graphs if kinds[op] == OpKind.GRAD and len(index.roots[op]) == 1]
    added_up = {op: several for op in sorted(passes) if (several := _added_up(index, op, index.roots[op][0])) >= 0}
    finder, found, of_one = _ColumnsStretched(index, added_up), dict[int, BroadcastGradient](), set[int]()
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


class _ColumnsStretched:
    def __init__(self, index: Index, added_up: dict[int, int]) -> None:
        self._index = index
        self._derived: dict[int, list[int]] = {}
        for op, tensor in added_up.items():
            self._derived.setdefault(tensor, []).append(op)
        columns = (index.recording.aliases.column(name) for name in ("tensor", "offset"))
        self._offsets = dict(zip(*columns, strict=True)) if added_up else {}

    def find(self, op: int, several: int) -> BroadcastGradient | None:
        shape = shape_of(self._index, several)
        for given in self._index.tensors_made(op):
            if shape_of(self._index, given) in ((*shape[:-1], 1), shape[:-1]):
                found = self._set_against(given, several, shape)
                if found is not None:
                    return BroadcastGradient(op, several, given, shape[-1], *found, False)
        return None

    def _set_against(self, given: int, several: int, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int] | None:
        """The calls that set a gradient, or a multiple of it, against all columns or several of them, and one of these.

        A sum with a tensor that is no gradient is not followed: ``latent - rate * gradient`` is a step down the sum
        that is meant, and what is made of the new latent may have columns.
        """
        index, narrow = self._index, (*shape[:-1], 1)
        followed, todo, by_column = {given}, [given], dict[int, int]()
        while todo and len(followed) < _FOLLOWED:
            tensor = todo.pop(0)
            own = shape_of(index, tensor)
            new = [made for op in self._derived.get(tensor, ()) for made in index.tensors_made(op)]
            for op in index.users.of(tensor):
                taken, name = list(index.uses.of(op)), index.method(op).rpartition(".")[2]
                others = [one for one in taken if one not in followed]
                combines = name in _COMBINES or index.func(op) in _LOSSES
                if combines and len(taken) == 2 and len(others) == 1:
                    if own == narrow and shape_of(index, others[0]) == shape:
                        return (op,), others[0]
                    column = self._column(others[0], several) if shape_of(index, others[0]) == own else NONE
                    by_column |= {column: op} if column >= 0 and column not in by_column else {}
                    if len(by_column) > 1:
                        return tuple(by_column.values()), others[0]
                if name in _SCALES | _RESHAPES or (combines and not others):
                    new += index.tensors_made(op)
            fits = [one for one in new if one not in followed and shape_of(index, one) in (narrow, shape[:-1])]
            followed.update(fits)
            todo += fits
        return None

    def _column(self, tensor: int, several: int) -> int:
        """Which column something was computed from, by calls that took nothing else: where it begins; or NONE."""
        index, made = self._index, self._index.recording.tensors.column("op")
        for _ in range(_STEPS_BACK):
            op = made[tensor]
            taken = list(index.uses.of(op)) if op < index.op_count else []
            if len(taken) != 1:
                return NONE
            if taken[0] == several:
                is_view = index.method(op).rpartition(".")[2] in _TAKES
                return self._offsets.get(tensor, NONE) if is_view else NONE
            tensor = taken[0]
        return NONE
