"""Weights that the program writes from trained ones step after step: an average, a teacher, a target network."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_LOOKED_AT = 64
"""Writes of one weight that are traced back."""
_NEAR = 8
"""Ops before a write among which what it writes may have been computed, in whatever statement."""


class FollowedWeights:
    """What some weights follow.

    Args:
        index: The recording.
        lives: Of its gradients.
        weights: Those that may follow others; no optimizer steps them.
    """

    def __init__(self, index: Index, lives: GradientLives, weights: Iterable[int]) -> None:
        self._index = index
        self._lives = lives
        self._weights = list(weights)

    def followed(self, weight: int) -> tuple[tuple[int, ...], int]:
        """The writes of a weight that took a trained one into it, with a step between each two; and that, or NONE."""
        steps, kept, source = list[int](), list[int](), NONE
        for op in self._written.get(weight, [])[:_LOOKED_AT]:
            one = self._source(weight, op)
            if one < 0 or source not in (NONE, one):
                continue
            source, steps = one, self._lives.steps[one]
            if not kept or ops_between(steps, kept[-1], op):
                kept.append(op)
            else:
                kept[-1] = op  # (several calls of one run write it: the last of them has it done)
        return tuple(kept), source

    def _source(self, weight: int, op: int) -> int:
        """The trained weight that a write took, itself or what was computed of it just before; or NONE."""
        index = self._index
        own, layouts = index.storage_at(weight, op - 1), index.recording.tensors.column("layout")
        todo, seen, found = [op], {op}, list[int]()
        while todo:
            call = todo.pop()
            for taken in index.uses.of(call):
                storage = index.storage_at(taken, call)
                leaf = self._trained.get(storage, NONE)
                if leaf >= 0 and leaf != weight:
                    found.append(leaf)
                made = index.made_by(taken)
                is_here = made >= 0 and index.op_statement[made] == index.op_statement[op]
                if leaf < 0 and storage != own and made not in seen and (is_here or op - _NEAR <= made < op):
                    seen.add(made)
                    todo.append(made)
        alike = [leaf for leaf in found if layouts[leaf] == layouts[weight]]
        return self._at_same_place(weight, op, alike) if alike else NONE

    def _at_same_place(self, weight: int, op: int, leaves: list[int]) -> int:
        """Of the weights that a call for many took, the one that stands as far in them as this one in its own."""
        if len(leaves) == 1:
            return leaves[0]
        index = self._index
        layouts = index.recording.tensors.column("layout")
        own = [taken for taken in index.uses.of(op) if self._trained.get(index.storage_at(taken, op), NONE) < 0]
        like = [taken for taken in own if layouts[taken] == layouts[weight]]
        storages = [index.storage_at(taken, op) for taken in like]
        storage = index.storage_at(weight, op)
        place = storages.index(storage) if storage in storages else NONE
        return leaves[place] if 0 <= place < len(leaves) == len(like) else NONE

    @cached_property
    def _trained(self) -> dict[int, int]:
        """What optimizers step, by the memory that it is on."""
        steps = self._lives.steps
        found = {self._index.storage_at(leaf, ops[0]): leaf for leaf, ops in steps.items()}
        return found | {self._index.storage_at(leaf, ops[-1]): leaf for leaf, ops in steps.items()}

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """For each of the weights the ops that wrote it, or put it on other memory; steps are none."""
        index, found = self._index, dict[int, set[int]]()
        on = {index.storage_at(weight, NONE): weight for weight in self._weights}
        for weight in self._weights:
            for op, _ in index.moves.get(weight, ()):
                on[index.storage_at(weight, op)] = weight
                found.setdefault(weight, set()).add(op)
        flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
        for op, tensor, before, _ in all_writes(index):
            weight = on.get(index.storage_at(tensor, op), NONE)
            is_born = op == made_at[tensor] and not flags[tensor] & EXTERNAL and not before
            if weight >= 0 and op < index.op_count and not is_born and not is_step(index, op):
                found.setdefault(weight, set()).add(op)
        return {weight: sorted(ops) for weight, ops in found.items()}
