"""Probabilities of a teacher that are the target of another network's loss and have a gradient.

The teacher is trained by a loss of its own as well, so that it belongs into the optimizer: only these targets are to be
constants. A loss that takes both sides alike (a squared distance) may be meant to draw them together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.events import Events
from gradscope.analysis.facts.losses.factors import AS_IT_IS, below, called, maker, plain_name, tracked_uses
from gradscope.analysis.facts.losses.trained_teachers import PRODUCT, SECOND_IS_TARGET, TrainedTeachers
from gradscope.analysis.facts.names.held_names import HeldNames
from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.recording import NONE

_CALLED = re.compile(
    r"(^|[._])(teachers?|soft_?(targets?|labels?)|pseudo_?(targets?|labels?|probs?)|targets?)([._]|$)", re.IGNORECASE
)
"""Parts of the names that people give to what a loss is to take as the target."""
_OTHER_DOMAIN = re.compile(r"(^|[._])(source|src)([._]|$)", re.IGNORECASE)
_PROBABILITIES, _LOGARITHMS = frozenset(("softmax", "sigmoid")), frozenset(("log_softmax", "logsigmoid", "log"))
_KEPT = AS_IT_IS | {"neg", "clamp"}
_CALLS = 6
"""Calls from the target back that are followed for a name."""


class TrackedTarget(NamedTuple):
    """One such loss, in the last pass that came through it."""

    loss: int
    target: int
    made: int
    """The op that gave the probabilities."""
    leaves: tuple[int, ...]
    """The parameters that lead to the target and not to what is compared with it."""


class TrackedTargets:
    """Finds them in one recording."""

    def __init__(self, index: Index, passes: Passes, events: Events, teachers: TrainedTeachers) -> None:
        self._index = index
        self._passes = passes
        self._events = events
        self._teachers = teachers
        self._held = HeldNames(index)
        self._nodes = index.recording.tensors.column("node")

    def found(self) -> Iterator[TrackedTarget]:
        """One for each loss; none where another loss takes the two the other way round."""
        last = sorted(self._teachers.last_losses().items())
        pairs = [(op, loss, *pair) for op, losses in last for loss in losses if (pair := self._pair(loss)) is not None]
        leaves = [(self._leaves(estimate), self._leaves(target)) for *_, estimate, target in pairs]
        for (op, loss, estimate, target), (learns, teaches) in zip(pairs, leaves, strict=True):
            own, theirs = teaches - learns, learns - teaches
            if not self._is_trained(own) or not self._is_trained(theirs):
                continue
            is_mutual = any(own & estimated and theirs & targeted for estimated, targeted in leaves)
            if not is_mutual and self._is_meant(own, theirs, target, estimate, op):
                made = maker(self._index, below(self._index, target, _KEPT))
                yield TrackedTarget(loss, target, made, tuple(sorted(own)))

    def _pair(self, loss: int) -> tuple[int, int] | None:
        """What is to learn in a loss and the probabilities that are its target; None for other losses."""
        name, (first, second) = plain_name(self._index.func(loss)), tracked_uses(self._index, loss)
        pairs = [(first, second), (second, first)] if name == PRODUCT else [(first, second)]
        if name != PRODUCT and name not in SECOND_IS_TARGET:
            return None
        if name == "kl_div" and self._maker(second) in _LOGARITHMS:  # (with log_target)
            return first, second
        for estimate, target in pairs:
            if self._maker(target) in _PROBABILITIES:
                if name != PRODUCT or self._maker(estimate) in _LOGARITHMS:
                    return estimate, target
                if (learns := self._of_difference(estimate, target)) != NONE:
                    return learns, target
        return None

    def _of_difference(self, difference: int, target: int) -> int:
        """Of a difference of logarithms, which a target is multiplied with, the one that is not the target's own."""
        made = maker(self._index, below(self._index, difference, _KEPT))
        taken = tracked_uses(self._index, made) if made >= 0 and called(self._index, made) == "sub" else []
        if len(taken) != 2 or any(self._maker(one) not in _LOGARITHMS for one in taken):
            return NONE
        others = [one for one in taken if self._leaves(one) != self._leaves(target)]
        return others[0] if len(others) == 1 else NONE

    def _maker(self, tensor: int) -> str:
        """What gave the values of a tensor."""
        made = maker(self._index, below(self._index, tensor, _KEPT))
        return called(self._index, made) if made >= 0 else ""

    def _leaves(self, tensor: int) -> frozenset[int]:
        return frozenset(self._passes.leaves_behind(self._nodes[tensor]))

    def _is_trained(self, leaves: frozenset[int]) -> bool:
        return bool(leaves) and all(leaf in self._events.in_optimizers for leaf in leaves)

    def _is_meant(self, own: frozenset[int], learns: frozenset[int], target: int, estimate: int, op: int) -> bool:
        """Whether names say which of the two teaches: that of the module, or those of what it gave."""
        if any(self._teachers.is_called_teacher(leaf, op) for leaf in learns):
            return False
        if all(self._teachers.is_called_teacher(leaf, op) for leaf in own):
            return True
        mine, theirs = self._names_of(target), self._names_of(estimate)
        is_called = any(_CALLED.search(name) for name in mine) and not any(_CALLED.search(name) for name in theirs)
        return is_called and not any(_OTHER_DOMAIN.search(name) for name in theirs)

    def _names_of(self, tensor: int) -> set[str]:
        """The names of a tensor and of what it was computed from, as far as each call took one tracked tensor."""
        strings, names = self._index.recording.strings, set[str]()
        for _ in range(_CALLS):
            names |= {strings[one.name] for one in self._held.of_tensor.get(tensor, ())}
            made = maker(self._index, tensor)
            taken = tracked_uses(self._index, made) if made >= 0 else []
            if len(taken) != 1:
                break
            (tensor,) = taken
        return names
