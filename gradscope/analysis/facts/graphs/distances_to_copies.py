"""Distances of leaves to earlier copies of themselves that are still on the graph: their two gradients cancel.

``(w - w.clone()) ** 2`` grows as ``w`` is trained. Its gradient goes to ``w`` by both ways, once with a plus and once
with a minus, and is zero whatever the values are.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_DISTANCES = frozenset(
    """
    SubBackward0 RsubBackward0 RsubBackward1 MseLossBackward0 SmoothL1LossBackward0 HuberLossBackward0 DistBackward0
    ForeachSubBackward0List
    """.split()  # noqa: SIM905 - quoted, the names would be hard to read
)
"""Nodes of what depends on the difference of two tensors alone."""

_AS_IT_IS = frozenset(
    """
    CloneBackward0 ViewBackward0 UnsafeViewBackward0 ReshapeAliasBackward0 AliasBackward0 ToCopyBackward0
    SqueezeBackward0 SqueezeBackward1 UnsqueezeBackward0
    """.split()  # noqa: SIM905
)
"""Nodes of what gives all elements of a tensor in their order, whatever its shape is."""

_PUT_TOGETHER = frozenset(("CatBackward0", "StackBackward0"))

_DEEPEST = 12
"""Nodes one behind the other of a copy that are looked at."""


class DistanceToCopy(NamedTuple):
    """A difference through which a pass came."""

    op: int
    """The call that made it."""
    copied: int
    """The call that made the copy."""
    copy: int
    """The copy: a tensor, or NONE."""
    leaves: tuple[int, ...]
    """What was copied, and was written between the two calls."""


class DistancesToCopies:
    """Finds them."""

    def __init__(self, index: Index, passes: Passes) -> None:
        self._index = index
        self._passes = passes
        self._forms: dict[int, tuple[int, ...]] = {}
        text, nodes = index.recording.text, index.recording.nodes
        self._names = nodes.column("name")
        self._made_by = nodes.column("op")
        self._variables = nodes.column("variable")
        named = {name: text(name) for name in set(self._names)}
        self._distances, self._as_it_is, self._together = (
            frozenset(name for name, called in named.items() if called in some)
            for some in (_DISTANCES, _AS_IT_IS, _PUT_TOGETHER)
        )

    def found(self) -> Iterator[DistanceToCopy]:
        """The differences, in the order of the run."""
        for node, name in enumerate(self._names) if self._distances else ():
            if name not in self._distances:
                continue
            sides = self._index.edges.of(node)
            if len(sides) != 2 or NONE in sides or sides[0] == sides[1] or self._passes.first_walked_at[node] < 0:
                continue
            leaves = self._leaves(sides[0], _DEEPEST)
            if not leaves or leaves != self._leaves(sides[1], _DEEPEST):
                continue
            copy = min((one for one in sides if self._variables[one] < 0), key=self._made_by.__getitem__, default=NONE)
            op, copied = self._made_by[node], self._made_by[copy] if copy >= 0 else NONE
            if copied >= 0 and all(self._is_written(leaf, copied, op) for leaf in leaves):
                yield DistanceToCopy(op, copied, self._index.node_tensor[copy], leaves)

    def _leaves(self, node: int, allowed: int) -> tuple[int, ...]:
        """The leaves whose elements, one leaf after the other, are what a node gives; empty where that is not known."""
        known = self._forms.get(node)
        if known is None:
            known = self._forms[node] = self._followed(node, allowed)
        return known

    def _followed(self, node: int, allowed: int) -> tuple[int, ...]:
        if node < 0 or not allowed:
            return ()
        if self._variables[node] >= 0:
            return (self._variables[node],)
        name, following = self._names[node], self._index.edges.of(node)
        if name in self._as_it_is and len(following) == 1:
            return self._leaves(following[0], allowed - 1)
        if name not in self._together:
            return ()
        parts = [self._leaves(one, allowed - 1) for one in following]
        return tuple(leaf for part in parts for leaf in part) if all(parts) else ()

    def _is_written(self, leaf: int, after: int, before: int) -> bool:
        return any(after < op < before for op in self._writes.get(leaf, ()))

    @cached_property
    def _writes(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            found.setdefault(tensor, []).append(op)
        return found
