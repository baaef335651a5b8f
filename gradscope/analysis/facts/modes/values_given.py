"""Leaves that a program gives new values itself, round after round, from what it trains with: codebooks, running sums.

No gradient is wanted for that, though an optimizer that was given ``model.parameters()`` holds them. It shows in the
values: those of a leaf that is only rescaled, masked or disturbed come from itself, or from nothing that is trained.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from functools import cached_property

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.tracking.flow import Flow
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import all_writes, is_step, replaced_memory
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

ROUNDS = 2
"""Rounds (of passes) in which new values were given, from which on it is what the program does with the leaf."""
_WRITES_TRACED = 16
"""Last writes of a leaf whose values are traced back."""


class ValuesGiven:
    """What gives leaves new values in each round, but for steps of optimizers.

    Args:
        index: The recording.
        flow: Where values came from.
        lives: What leaves got gradients.
    """

    def __init__(self, index: Index, flow: Flow, lives: GradientLives) -> None:
        self._index = index
        self._flow = flow
        self._lives = lives
        self._values = ValuesTaken(index)
        self._passes = sorted(index.roots)
        self._kinds, self._spans = (index.recording.ops.column(name) for name in ("kind", "span"))

    def because(self, leaf: int) -> str:
        """What gives a leaf, or what stands in its place, its values; to follow a comma, empty where nothing does."""
        writes = self._writes_of(leaf)
        if self._are_rounds(writes) and self._come_from_training(writes[-_WRITES_TRACED:], leaf):
            return f"and line {self._index.op_line(writes[-1])} gives it its values"
        others = self.in_place_of(leaf)
        made = [self._index.made_by(other) for other in others]
        if self._are_rounds(made) and not any(other in self._lives.passes for other in others):
            own = {leaf, *others}
            if any(self._is_from_training(other, self._index.made_by(other), own) for other in others[-1:]):
                return f"and line {self._index.op_line(made[-1])} puts others with given values in its place"
        return ""

    def in_place_of(self, leaf: int) -> list[int]:
        """The parameters that the line made, in order, whose last one stood where a module had a leaf before."""
        places, at = self._places, self._place_of.get(leaf)
        last = places[at][-1] if at is not None else leaf
        op = self._index.made_by(last)
        if last == leaf or not 0 <= op < self._index.op_count or self._kinds[op] == OpKind.GROUP:
            return []
        return [other for other in self._made_at.get(self._spans[op], []) if other != leaf]

    def _writes_of(self, leaf: int) -> list[int]:
        """The ops, in order, by which the program wrote a leaf."""
        storage = self._index.storage_at(leaf, self._index.op_count)
        return sorted(set(self._written_on.get(storage, [])))

    @cached_property
    def _written_on(self) -> dict[int, list[int]]:
        """For each memory block the ops, no steps, that wrote into it, or put the tensor that is on it there."""
        index, found = self._index, dict[int, list[int]]()
        for op, tensor, _, _ in all_writes(index):
            if op < index.op_count and index.op_statement[op] != NOWHERE and not is_step(index, op):
                found.setdefault(index.storage_at(tensor, op), []).append(op)
        for op, tensor, _ in replaced_memory(index):
            found.setdefault(index.storage_at(tensor, index.op_count), []).append(op)
        return found

    def _are_rounds(self, ops: Collection[int]) -> bool:
        return len({bisect_left(self._passes, op) for op in ops}) >= ROUNDS

    def _come_from_training(self, writes: list[int], leaf: int) -> bool:
        """Whether writes of several rounds took values from there."""
        found = set[int]()
        for op in reversed(writes):
            if any(self._is_from_training(taken, op, {leaf}) for taken in self._values.of(op)):
                found.add(op)
                if self._are_rounds(found):
                    return True
        return False

    def _is_from_training(self, tensor: int, op: int, own: Collection[int]) -> bool:
        """Whether values were made from other leaves that get gradients, or of a batch that a loss was made from."""
        mine = {self._index.storage_at(one, op) for one in own}
        behind = {one for one in self._flow.origins(tensor, op) if self._index.storage_at(one, op) not in mine}
        return any(one in self._lives.passes or one in self._behind_losses for one in behind)

    @cached_property
    def _behind_losses(self) -> frozenset[int]:
        """Batches that the roots of the last passes were made from: what came after the first pass, from no others.

        What was there before (a mask, the numbers of a schedule) may be put on a leaf that is to be trained.
        """
        found = set[int]()
        for op in self._passes[-ROUNDS:]:
            found.update(self._flow.origins_of_all(self._index.roots[op], op))
        return frozenset(self._data(found))

    def _data(self, tensors: Collection[int]) -> Iterator[int]:
        count, seen_at = self._index.op_count, self._index.recording.tensors.column("op")
        for tensor in tensors:
            made = self._index.made_by(tensor)
            is_leaf = self._index.is_leaf_with_grad(tensor, count)
            is_first = not 0 <= made < count or not len(self._index.uses.of(made))
            if is_first and not is_leaf and seen_at[tensor] > self._passes[0]:
                yield tensor

    @cached_property
    def _places(self) -> dict[tuple[int, int], list[int]]:
        """For each name of each module the parameters that it was seen to hold under it, as they were made."""
        found: dict[tuple[int, int], list[int]] = {}
        for module, tensor, name in self._index.recording.module_tensors:
            if tensor not in (held := found.setdefault((module, name), [])):
                held.append(tensor)
        return {place: sorted(held) for place, held in found.items()}

    @cached_property
    def _place_of(self) -> dict[int, tuple[int, int]]:
        return {tensor: place for place, held in self._places.items() for tensor in held}

    @cached_property
    def _made_at(self) -> dict[int, list[int]]:
        """For each span, the parameters that it made."""
        flags, found = self._index.recording.tensors.column("flags"), dict[int, list[int]]()
        for tensor, flag in enumerate(flags):
            op = self._index.made_by(tensor) if flag & PARAMETER else NONE
            if 0 <= op < self._index.op_count:
                found.setdefault(self._spans[op], []).append(tensor)
        return found
