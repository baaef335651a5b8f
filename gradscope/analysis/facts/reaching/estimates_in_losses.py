"""Straight-through estimates whose values a leaf gave, and the terms of a loss beside them: a codebook not trained.

The estimate ``z + (code - z).detach()`` gives ``z`` the gradient, on purpose. What trains ``code`` is a term of its
own, ``mse_loss(code, z.detach())``; one that takes the estimate in its place has no gradient for ``code``, and its
cuts are right where they are, as is that of the term which draws ``z`` to the codes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from gradscope.analysis.facts.reaching.straight_through import StraightThrough, StraightThroughs
from gradscope.analysis.facts.tracking.flow import Flow, Step
from gradscope.analysis.index import Index
from gradscope.recording.rows import OpKind

_SAME_VALUES = frozenset(
    f"Tensor.{name}"
    for name in (
        *("detach", "data", "clone", "contiguous", "view", "reshape", "flatten", "unflatten", "permute", "transpose"),
        *("movedim", "squeeze", "unsqueeze", "t", "float", "to"),
    )
)
"""Calls that give the elements that they took, all of them and no others."""
_JOINS = frozenset(("Tensor.stack", "Tensor.cat"))
_SIZES = frozenset(f"Tensor.{name}" for name in ("pow", "square", "abs", "mul", "norm", "sum", "mean"))
"""Calls that make a difference a distance."""
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
        self._estimates = StraightThroughs(index, flow)
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
            self._found[loss] = self._among(steps)
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

    def _among(self, steps: dict[int, Step]) -> list[StraightThrough]:
        sums = map(self._estimates.of, sorted({step.op for step in steps.values()}))
        return list(islice((one for one in sums if one is not None), _MOST))

    def _leads_to(self, leaf: int, shown: int, op: int) -> bool:
        """Whether a leaf went into what an estimate shows, with a graph all the way."""
        steps = self._flow.origins(shown, op)
        return leaf in steps and not any(step.loses for step in self._flow.path(steps, leaf))

    def _met(self, found: StraightThrough, values: list[int], steps: dict[int, Step], *, is_tracked: bool) -> int:
        """The call that takes some values and what has the gradient of an estimate, one of them with a graph.

        The values are those with the graph if ``is_tracked``, and cut off otherwise. What the call gives is a distance
        of the two, and went into the loss: what a quantiser leaves over for the next one is none.
        """
        index, source = self._index, self._source(found.takes, ())
        for op, taken, places in self._takers(values):
            if index.requires_grad(taken, op) != is_tracked or not any(one in steps for one in index.tensors_made(op)):
                continue
            for other in index.uses.of(op):
                if other == taken or index.requires_grad(other, op) == is_tracked:
                    continue
                if self._source(other, places) == source and self._is_distance(op):
                    return op
        return -1

    def _is_distance(self, op: int) -> bool:
        index = self._index
        users = [user for made in index.tensors_made(op) for user in index.users.of(made)]
        kinds = index.recording.ops.column("kind")
        computing = [user for user in users if kinds[user] == OpKind.CALL]
        return index.func(op).endswith("_loss") or all(index.method(user) in _SIZES for user in computing)

    def _takers(self, values: list[int]) -> Iterator[tuple[int, int, tuple[int, ...]]]:
        """The calls that compute with some values, however these were laid out before or cut off.

        With each the tensor that it takes, and at which places this was put together with others.
        """
        todo: list[tuple[int, int, tuple[int, ...]]] = [(value, 0, ()) for value in values]
        while todo:
            tensor, passed, places = todo.pop()
            for op in self._index.users.of(tensor):
                is_join = self._index.method(op) in _JOINS
                if not is_join and not self._gives_the_same(op):
                    yield op, tensor, places
                elif passed < _FARTHEST:
                    at = (*places, list(self._index.uses.of(op)).index(tensor)) if is_join else places
                    todo += [(made, passed + 1, at) for made in self._index.tensors_made(op)]

    def _source(self, tensor: int, places: tuple[int, ...]) -> int:
        """The tensor whose elements one has, or that alone gets its gradient, as it is.

        Where the elements are those of several that were put together: of the one at some places.
        """
        index = self._index
        for _ in range(_FARTHEST):
            made = index.made_by(tensor)
            if not 0 <= made < index.op_count:
                break
            taken = index.uses.of(made)
            if places and index.method(made) in _JOINS and places[-1] < len(taken):
                tensor, places = taken[places[-1]], places[:-1]
            elif self._gives_the_same(made) and len(taken) == 1:
                tensor = taken[0]
            elif (tracked := self._estimates.tracked_term(made)) >= 0:
                tensor = tracked  # (what one quantiser leaves over for the next, ``z - code.detach()``)
            else:
                break
        return -1 if places else tensor

    def _gives_the_same(self, op: int) -> bool:
        return self._index.method(op).removesuffix(".__get__") in _SAME_VALUES
