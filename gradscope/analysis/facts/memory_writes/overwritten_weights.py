"""Parameters that the program gives other values after each step, before anything is computed with the step's."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from functools import cached_property
from itertools import pairwise
from typing import Literal, NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

STEPS = 4
"""Steps, between which it was done each time, from which on it counts."""

_COPY, _LOAD = "Tensor.copy_", "nn.Module.load_state_dict"
_MOVES = ("Tensor.add_", "Tensor.mul_", "Tensor.lerp_", "Tensor.sub_")
"""Functions by which an average of weights is moved towards them."""

Source = Literal["unchanged", "average", "towards"]


class Overwritten(NamedTuple):
    """One parameter."""

    tensor: int
    copies: tuple[int, ...]
    """The calls that copied into it, one after each step but the last."""
    source: Source
    """The values: those of memory that nothing wrote meanwhile, or of one that is moved towards the parameter; or they
    are moved ``towards`` those of another model's parameter that nothing writes."""


class OverwrittenWeights:
    """Those of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def found(self) -> list[Overwritten]:
        """Every parameter whose steps were all followed by a copy from the same memory into it."""
        found = []
        for tensor, steps in self._lives.steps.items():
            if len(steps) >= STEPS and (moves := self._moved_after_each(tensor, steps)):
                found.append(Overwritten(tensor, tuple(moves), "towards"))
            elif len(steps) >= STEPS and (copied := self._after_each(tensor, steps)):
                source = self._source(tensor, steps, copied)
                if source is not None:
                    found.append(Overwritten(tensor, tuple(op for op, _ in copied), source))
        return found

    def _after_each(self, tensor: int, steps: list[int]) -> list[tuple[int, int]]:
        """The last copy after each step, before the next pass: op and storage. Empty where one step has none."""
        copies = self._copies.get(self._index.storage_at(tensor, steps[-1]), [])
        ops, found = [op for op, _ in copies], []
        for step, following in pairwise(steps):
            until = first_after(self._lives.passes[tensor], step)
            until = until if 0 <= until < following else following
            at = bisect_left(ops, until) - 1
            if at < 0 or ops[at] < step:
                return []
            found.append(copies[at])
        return found if len({storage for _, storage in found}) == 1 else []

    def _moved_after_each(self, tensor: int, steps: list[int]) -> list[int]:
        """The calls after each step by which a parameter is averaged with another that nothing trains or writes."""
        moves, found = self._averages.get(tensor, []), list[int]()
        for step, following in pairwise(steps):
            at = next((op for op, _ in moves if step < op < following), NONE)
            if at < 0:
                return []
            found.append(at)
        others = {other for _, other in moves}
        if len(others) != 1:
            return []
        other = others.pop()
        writes = self._written.get(self._index.storage_at(other, moves[0][0]), [])
        is_still = other not in self._lives.passes and all(op < moves[0][0] for op in writes)
        return found if is_still and self._index.recording.tensors.column("flags")[other] & PARAMETER else []

    @cached_property
    def _averages(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor the calls that made it an average of itself and another: the op and the other.

        ``p.lerp_(q, w)``, or ``p.add_(q, …)`` right after ``p.mul_(…)``.
        """
        index, found, scaled = self._index, dict[int, list[tuple[int, int]]](), dict[int, int]()
        for op in index.calls_of(("Tensor.add_", "Tensor.lerp_", "Tensor.mul_").__contains__):
            name, taken = index.func(op), list(index.uses.of(op))
            if name == "Tensor.mul_" and len(taken) == 1:
                scaled[taken[0]] = op
            elif len(taken) == 2 and (name == "Tensor.lerp_" or scaled.get(taken[0], NONE) == op - 1):
                found.setdefault(taken[0], []).append((op, taken[1]))
        return found

    @cached_property
    def _copies(self) -> dict[int, list[tuple[int, int]]]:
        """For each memory block the calls that copied all of a tensor of the same shape into it, and from where."""
        index = self._index
        return {
            block: [(op, index.storage_at(source, op)) for op, source in copies]
            for block, copies in whole_copies(index).items()
        }

    def _source(self, tensor: int, steps: list[int], copied: list[tuple[int, int]]) -> Source | None:
        """What the memory is that was copied from; None where it is neither."""
        source = copied[0][1]
        writes = self._written.get(source, [])
        if bisect_right(writes, copied[0][0]) == bisect_left(writes, copied[-1][0]):
            return "unchanged"
        pairs = zip(steps, copied, strict=False)
        moved = [
            self._moves(tensor, source, writes[bisect_right(writes, one) : bisect_left(writes, at)])
            for one, (at, _) in pairs
        ]
        return "average" if all(moved) else None

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """For each memory block the ops that wrote into it, in order; what a tensor was born with is no write."""
        found: dict[int, list[int]] = {}
        made_at = self._index.recording.tensors.column("op")
        for op, tensor, _, _ in (row for row in all_writes(self._index) if row[0] != made_at[row[1]]):
            found.setdefault(self._index.storage_at(tensor, op), []).append(op)
        return found

    def _moves(self, tensor: int, source: int, writes: list[int]) -> bool:
        """Whether some writes moved memory towards a parameter, and towards no other."""
        index, own = self._index, self._index.storage_at(tensor, writes[-1] if writes else 0)
        kinds, flags = index.recording.ops.column("kind"), index.recording.tensors.column("flags")
        towards = False
        for op in writes:
            if op >= index.op_count or kinds[op] != OpKind.CALL or index.func(op) not in _MOVES:
                return False
            for taken in index.uses.of(op):
                on = index.storage_at(taken, op)
                towards |= on == own
                if on not in (own, source) and flags[taken] & PARAMETER:
                    return False
        return towards


def whole_copies(index: Index) -> dict[int, list[tuple[int, int]]]:
    """For each memory block the calls that copied all of a tensor of the same shape into it, and that tensor."""
    found: dict[int, list[tuple[int, int]]] = {}
    shapes = index.recording.layouts.column("shape")
    for op in index.calls_of((_COPY, _LOAD).__contains__):
        taken = list(index.uses.of(op))
        for into, source in zip(taken[::2], taken[1::2], strict=False):
            on, of = index.storage_at(into, op), index.storage_at(source, op)
            is_whole = shapes[index.layout_at(into, op)] == shapes[index.layout_at(source, op)]
            if is_whole and on >= 0 and of >= 0 and on != of:
                found.setdefault(on, []).append((op, source))
    return found
