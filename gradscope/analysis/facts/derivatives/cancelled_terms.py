"""Tensors that a sum adds and takes away again: their gradient through it is 1 - 1."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field

_SIGNS = {
    "add": (1, 1),
    "__add__": (1, 1),
    "__radd__": (1, 1),
    "sub": (1, -1),
    "__sub__": (1, -1),
    "__rsub__": (-1, 1),
    "rsub": (-1, 1),
    "neg": (-1,),
    "negative": (-1,),
}
"""How calls take their first and their second tensor."""

_DISTANCES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
"""Functions that depend on the difference of their first two tensors alone."""

_LARGEST = 64
"""Calls of one sum that are followed."""


class Sum(NamedTuple):
    """A sum in which a term cancels."""

    op: int
    """Its last call."""
    cancelled: list[int]
    """The tensors that are in it as often with a plus as with a minus."""
    left: list[int]
    """The others that require grad."""
    constant: list[int]
    """The others that do not."""


class CancelledTerms:
    """Expands sums and differences."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def of_distance(self, op: int) -> Sum | None:
        """What cancels in the difference that a loss function takes of its two tensors; see :meth:`of`."""
        is_distance = self._index.func(op).rpartition(".")[2] in _DISTANCES
        return self._expanded(op, (1, -1)) if is_distance and len(self._index.uses.of(op)) > 1 else None

    def of(self, op: int) -> Sum | None:
        """What cancels in the result of a call; None where nothing does, or where it is not known."""
        signs = self._signs(op)
        return None if signs is None else self._expanded(op, signs)

    def _expanded(self, op: int, own_signs: tuple[int, ...]) -> Sum | None:
        if op in self._unclear:
            return None
        counts: dict[int, int] = {}
        todo, steps = [(op, 1)], 0
        while todo:
            current, sign = todo.pop()
            steps += 1
            if steps > _LARGEST:
                return None
            signs = own_signs if current == op else self._signs(current) or ()
            for tensor, own in zip(self._index.uses.of(current), signs, strict=False):
                made = self._index.recording.tensors.column("op")[tensor]
                if tensor in self._regraphed:
                    return None
                if made < current and self._signs(made) is not None and self._index.tensors_made(made) == [tensor]:
                    todo.append((made, sign * own))
                else:
                    counts[tensor] = counts.get(tensor, 0) + sign * own
        cancelled = [one for one, count in counts.items() if not count and self._index.requires_grad(one, op)]
        others = [one for one, count in counts.items() if count]
        left = [one for one in others if self._index.requires_grad(one, op)]
        return Sum(op, cancelled, left, [one for one in others if one not in left]) if cancelled else None

    def _signs(self, op: int) -> tuple[int, ...] | None:
        if not 0 <= op < self._index.op_count:
            return None
        namespace, _, name = self._index.func(op).rpartition(".")
        signs = _SIGNS.get(name) if namespace in ("Tensor", "torch") else None
        taken = self._index.uses.of(op)
        if signs is None or not 1 <= len(taken) <= len(signs) or "alpha" in self._index.span_source(op):
            return None
        if len(taken) == 1 and name in ("sub", "rsub") and namespace == "torch":
            return None  # (of torch.sub(1, x) it is not known which of the two the tensor is)
        return signs

    @cached_property
    def _unclear(self) -> frozenset[int]:
        """Calls whose result was given another history later."""
        made_at = self._index.recording.tensors.column("op")
        return frozenset(made_at[tensor] for tensor in self._regraphed)

    @cached_property
    def _regraphed(self) -> frozenset[int]:
        """Tensors whose ``grad_fn`` changed: they were written in place."""
        changes = self._index.recording.changes
        columns = (changes.column(name) for name in ("tensor", "field", "before"))
        return frozenset(
            tensor for tensor, field, before in zip(*columns, strict=True) if field == Field.GRAD_FN and before != NONE
        )
