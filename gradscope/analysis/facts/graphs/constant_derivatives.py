"""Derivatives that were computed without a graph, and added to what has a gradient by the same parameters.

``du = autograd.grad(u.sum(), t)`` and ``functional.jacobian(net, t)`` give constants where they are not asked for a
graph (``create_graph=True``). In a residual ``du + k * u`` the parameters are then trained by the other part alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import BELOW, CONTINUED
from gradscope.recording.rows import OpKind

_SUMS = frozenset("add sub rsub __add__ __radd__ __sub__ __rsub__ add_ sub_ __iadd__ __isub__".split())  # noqa: SIM905

_MEANT = frozenset("detach detach_ sign sgn item tolist numpy no_grad stop_gradient".split())  # noqa: SIM905
"""Calls after which a derivative is no part of a formula any more: it is a direction, or was made a constant."""

FUNCTIONAL = frozenset("jacobian hessian jvp vjp hvp vhp".split())  # noqa: SIM905
"""Functions of ``torch.autograd.functional``, as ops name them."""

_FURTHEST = 40
"""Calls after a derivative that are followed."""


class ConstantDerivative(NamedTuple):
    """A derivative that is a constant in a sum."""

    op: int
    """The call that computed it: of ``autograd.grad``, or the first one in a function of ``autograd.functional``."""
    summed: int
    """The op of the sum."""
    leaves: tuple[int, ...]
    """The trained leaves that both parts of the sum were computed from."""


def constant_derivatives(index: Index, passes: Passes, trained: Collection[int]) -> Iterator[ConstantDerivative]:
    """One for each statement that computes a derivative."""
    finder, seen = _SumsOfDerivatives(index, passes, trained), set[int]()
    for op in index.of_kind(OpKind.GRAD):
        statement = index.op_statement[op]
        if statement not in seen and (found := finder.of(op)) is not None:
            seen.add(statement)
            yield found


class _SumsOfDerivatives:
    def __init__(self, index: Index, passes: Passes, trained: Collection[int]) -> None:
        self._index = index
        self._passes = passes
        self._trained = trained
        self._regions = GradRegions(index)
        self._flags = index.recording.ops.column("flags")
        self._nodes = index.recording.tensors.column("node")

    def of(self, op: int) -> ConstantDerivative | None:
        """What became of the derivative that a call computed; None where it is not known to be a constant in a sum."""
        index = self._index
        nodes = [] if op in index.creating_graphs else index.root_nodes(op)
        asked = set(index.uses.of(op)).difference(index.roots.get(op, ()))
        first = self._first_of(op)
        is_plain = not any(index.requires_grad(one, op + 1) for one in index.tensors_made(op))
        if not nodes or first < 0 or not is_plain or asked.intersection(self._trained):
            return None
        if self._regions.around(first) >= 0:  # (autograd.functional switches gradients on for itself)
            return None
        leaves = self._leaves_behind(nodes)
        if not leaves:
            return None
        asked.update(index.uses.of(first))
        summed = self._sums(op, asked, leaves)
        return None if summed is None else ConstantDerivative(first, summed[0], summed[1])

    def _first_of(self, op: int) -> int:
        """The first op of the call of the user's that an op belongs to; NONE where that is not one that is known."""
        spans = self._index.recording.ops.column("span")
        if not self._flags[op] & BELOW:
            return op
        groups = (
            one
            for one in range(op, max(-1, op - 10_000), -1)
            if spans[one] == spans[op] and not self._flags[one] & CONTINUED and self._flags[one] & BELOW
        )
        first = next(groups, NONE)
        return first if self._index.func(first) in FUNCTIONAL else NONE

    def _leaves_behind(self, nodes: list[int]) -> set[int]:
        return {leaf for leaf in self._passes.leaves_behind(*nodes) if leaf in self._trained}

    def _sums(self, op: int, asked: set[int], leaves: set[int]) -> tuple[int, tuple[int, ...]] | None:
        """The last sum that took what was computed of a derivative; None where something else with a gradient did."""
        index = self._index
        todo, seen = list(index.tensors_made(op)), set[int]()
        summed: tuple[int, tuple[int, ...]] | None = None
        while todo:
            tensor = todo.pop()
            for user in index.users.of(tensor):
                if user in seen or user <= op:
                    continue
                seen.add(user)
                name = index.call_name(user).rpartition(".")[2]
                if name in _MEANT or len(seen) > _FURTHEST:
                    return None
                made = index.tensors_made(user) or [one for one in index.uses.of(user)[:1] if name in _SUMS]
                tracked = [one for one in made if index.requires_grad(one, user + 1)]
                if not tracked:
                    todo += index.tensors_made(user)
                    continue
                shared = self._shared(user, tensor, asked, leaves) if name in _SUMS else ()
                if not shared:
                    return None
                if any(self._is_walked(one) for one in tracked):
                    summed = user, shared
        return summed

    def _shared(self, op: int, tensor: int, asked: set[int], leaves: set[int]) -> tuple[int, ...]:
        """The leaves behind the other part of a sum too; none where that is what the derivative was taken by."""
        others = [one for one in self._index.uses.of(op) if one != tensor and self._index.requires_grad(one, op)]
        if len(others) != 1 or others[0] in asked or self._index.is_leaf(others[0]):
            return ()
        return tuple(sorted(self._leaves_behind([self._nodes[others[0]]]) & leaves))

    def _is_walked(self, tensor: int) -> bool:
        node = self._nodes[tensor]
        return node != NONE and self._passes.first_walked_at[node] >= 0
