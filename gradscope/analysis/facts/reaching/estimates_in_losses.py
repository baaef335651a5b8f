"""Straight-through estimates whose values a leaf gave, and the terms of a loss beside them: a codebook not trained.

The estimate ``z + (code - z).detach()`` gives ``z`` the gradient, on purpose. What trains ``code`` is a term of its own,
``mse_loss(code, z.detach())``; one that takes the estimate in its place has no gradient for ``code``, and its cuts are
right where they are, as is that of the term which draws ``z`` to the codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.reaching.straight_through import StraightThrough, StraightThroughs
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index

_SAME_VALUES = frozenset(
    f"Tensor.{name}"
    for name in (
        *("detach", "data", "clone", "contiguous", "view", "reshape", "flatten", "unflatten", "permute", "transpose"),
        *("movedim", "squeeze", "unsqueeze", "t", "float", "to"),
    )
)
"""Calls that give the elements that they took, all of them and no others."""
_FARTHEST = 8
"""Such calls in a row that are followed."""
_MOST = 64
"""Estimates of one loss that are looked at."""


class Beside(NamedTuple):
    """What a loss does with an estimate whose values a leaf gave."""

    estimate: StraightThrough
    compared_at: int
    """The call that takes it and, cut off, what has its gradient; -1 where no such call leads to the loss."""
    drawn_at: int
    """The call that takes its values cut off, and what has its gradient with a graph; -1 likewise."""


class EstimatesInLosses:
    """Looks into losses for such estimates."""

    def __init__(self, index: Index, flow: Flow) -> None:
        self._index = index
        self._flow = flow
        self._found: dict[int, list[StraightThrough]] = {}

    def beside(self, leaf: int, loss: int, steps: dict[int, Step]) -> Beside | None:
        """The estimate that shows what was computed from a leaf, of those that a loss was made from.

        One that the loss compares with what has its gradient comes first, then one whose values another term takes.

        Args:
            leaf: The leaf that got no gradient.
            loss: The pass, by its op.
            steps: What its root was made from.
        """
        if loss not in self._found:
            self._found[loss] = self._estimates(steps)
        beside = None
        for found in self._found[loss]:
            if not any(self._leads_to(leaf, shown, found.op) for shown in found.shows):
                continue
            (made,) = self._index.tensors_made(found.op)
            compared = self._met(found, [made], steps, is_tracked=True)
            if compared >= 0:
                return Beside(found, compared, -1)
            drawn = self._met(found, [made, *found.shows], steps, is_tracked=False)
            if drawn >= 0 and beside is None:
                beside = Beside(found, -1, drawn)
        return beside

    def _estimates(self, steps: dict[int, Step]) -> list[StraightThrough]:
        estimates = StraightThroughs(self._index, self._flow)
        found = [one for op in sorted({step.op for step in steps.values()}) if (one := estimates.of(op)) is not None]
        return found[:_MOST]

    def _leads_to(self, leaf: int, shown: int, op: int) -> bool:
        """Whether a leaf went into what an estimate shows, with a graph all the way."""
        steps = self._flow.origins(shown, op)
        return leaf in steps and not any(step.loses for step in self._flow.path(steps, leaf))

    def _met(self, found: StraightThrough, values: list[int], steps: dict[int, Step], *, is_tracked: bool) -> int:
        """The call on the way to the loss that takes some values and what has the estimate's gradient, one with a graph.

        The values are those with the graph if ``is_tracked``, and cut off otherwise.
        """
        index, source = self._index, self._source(found.takes)
        for op, taken in self._takers(values):
            if index.requires_grad(taken, op) != is_tracked or not any(one in steps for one in index.tensors_made(op)):
                continue
            for other in index.uses.of(op):
                if other != taken and index.requires_grad(other, op) != is_tracked and self._source(other) == source:
                    return op
        return -1

    def _takers(self, values: list[int]) -> Iterator[tuple[int, int]]:
        """The calls that compute with some values, however these were laid out before or cut off."""
        todo = [(value, 0) for value in values]
        while todo:
            tensor, passed = todo.pop()
            for op in self._index.users.of(tensor):
                if self._gives_the_same(op):
                    todo += [(made, passed + 1) for made in self._index.tensors_made(op) if passed < _FARTHEST]
                else:
                    yield op, tensor

    def _source(self, tensor: int) -> int:
        """The tensor whose elements one has."""
        for _ in range(_FARTHEST):
            made = self._index.made_by(tensor)
            if not 0 <= made < self._index.op_count or not self._gives_the_same(made):
                break
            taken = self._index.uses.of(made)
            if len(taken) != 1:
                break
            tensor = taken[0]
        return tensor

    def _gives_the_same(self, op: int) -> bool:
        return self._index.method(op).removesuffix(".__get__") in _SAME_VALUES
