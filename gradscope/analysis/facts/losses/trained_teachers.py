"""Networks called teachers or targets that an optimizer trains, and only as the target of another network's loss."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.best_names import BestNames
from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import plain_name, tracked_uses
from gradscope.analysis.facts.passes import Passes
from gradscope.analysis.index import Index

_EITHER_SIDE = frozenset(("mse_loss", "smooth_l1_loss", "huber_loss", "l1_loss", "cosine_similarity", "sub"))
_SECOND_IS_TARGET = frozenset(("kl_div", "cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits"))

_SAYS_SO = re.compile(
    r"(^|[._])(teachers?|targets?|ema|averaged?|momentum|frozen|references?|ref|old)(_?(net|network|model|encoder|"
    r"policy|critic|actor|branch|projector|module))?[._\d]",
    re.IGNORECASE,
)
"""Parts of names that people give to networks which are to stay as they are, or to follow another."""


class TrainedTeacher(NamedTuple):
    """One loss whose target comes from such a network."""

    loss: int
    target: int
    """The tensor that is the target."""
    leaves: list[int]
    """Its parameters, which the target alone leads to."""
    uses: int
    """The last call that took one of them before the loss."""


class TrainedTeachers:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, events: Events, names: BestNames) -> None:
        self._index = index
        self._passes = passes
        self._events = events
        self._names = names
        self._variables = index.recording.nodes.column("variable")
        self._nodes = index.recording.tensors.column("node")

    def found(self) -> Iterator[TrainedTeacher]:
        """The last one of each call in the source, of losses that a backward pass came through."""
        index, walked = self._index, self._passes.first_walked_at
        wanted = _EITHER_SIDE | _SECOND_IS_TARGET
        spans = index.recording.ops.column("span")
        last = {spans[op]: op for op in index.calls_of(lambda name: plain_name(name) in wanted)}
        for loss in sorted(last.values()):
            made, taken = index.tensors_made(loss), tracked_uses(index, loss)
            if len(taken) != 2 or not made or self._nodes[made[0]] < 0 or walked[self._nodes[made[0]]] < 0:
                continue
            sides = (taken, taken[::-1]) if plain_name(index.func(loss)) in _EITHER_SIDE else (taken,)
            for estimate, target in sides:
                is_used_again = any(self._nodes[one] >= 0 for one in self._made_beside(target, loss))
                leaves = [] if is_used_again else self._only_behind(target, estimate, walked[self._nodes[made[0]]])
                if leaves:
                    yield TrainedTeacher(loss, target, leaves, self._last_use(leaves, loss))
                    break

    def _only_behind(self, target: int, estimate: int, op: int) -> list[int]:
        """The leaves of a target, if all are called so and optimized, and no other way of the pass leads to them."""
        node = self._nodes[target]
        if node < 0:
            return []
        leaves = self._passes.leaves_behind(node)
        others = self._beside(op, node)
        if (
            not leaves
            or not leaves.isdisjoint(others)
            or not others & self._passes.leaves_behind(self._nodes[estimate])
        ):
            return []
        is_meant = all(leaf in self._events.in_optimizers for leaf in leaves)
        return sorted(leaves) if is_meant and all(_SAYS_SO.search(self._names.at(one, op)) for one in leaves) else []

    def _made_beside(self, target: int, loss: int) -> list[int]:
        """What other calls made of a target."""
        users = (op for op in self._index.users.of(target) if op != loss)
        return [made for op in users for made in self._index.tensors_made(op)]

    def _beside(self, op: int, node: int) -> set[int]:
        """The leaves to which the graph leads from the roots of a pass without going through a node."""
        starts, following = self._passes.edge_starts, self._index.edges.values
        stack = list(self._index.root_nodes(op))
        seen = {node, *stack}
        found: set[int] = set()
        while stack:
            one = stack.pop()
            if self._variables[one] >= 0:
                found.add(self._variables[one])
            new = [edge for edge in following[starts[one] : starts[one + 1]] if edge >= 0 and edge not in seen]
            seen.update(new)
            stack += new
        return found

    def _last_use(self, leaves: list[int], before: int) -> int:
        uses = (op for leaf in leaves for op in self._index.users.of(leaf) if op < before)
        return max(uses, default=before)
