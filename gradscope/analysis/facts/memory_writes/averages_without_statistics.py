"""Copies whose weights follow those of a trained model, and whose batch norms keep the running statistics of the start.

``parameters()`` gives no buffers: a copy that is averaged or overwritten by it has new weights and old statistics. It
shows where the copy normalises with these, in evaluation mode, while the norms of the trained model learned others.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.modes.norm_statistics import LEARNED, runs_in_training
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes, is_step, last_written
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import Field

RUNS = 3
"""Writes of a copy's weight, with a step of the trained one between each two, from which on it follows that."""
_LOOKED_AT = 64
"""Writes of one weight that are traced back."""
_NEAR = 8
"""Ops before a write among which what it writes may have been computed, in whatever statement."""

_MEAN, _WEIGHT, _TAKEN = 1, 3, 5
"""What a batch norm takes: the input, both statistics, weight and bias."""


class StaleStatistics(NamedTuple):
    """One batch norm of a copy."""

    weight: int
    source: int
    """The trained weight that it follows."""
    ops: tuple[int, ...]
    """The writes of the copy's weight, with a step before each but the first."""
    used: tuple[int, ...]
    """Calls in evaluation mode after at least so many of them as :data:`RUNS`."""


def stale_statistics(index: Index, lives: GradientLives) -> list[StaleStatistics]:
    """Those of one recording."""
    learned = {index.storage_at(weight, op): op for op, weight in runs_in_training(index, LEARNED)}
    if not learned or not lives.steps:
        return []
    finder = _StaleFinder(index, lives)
    return [found for weight, uses in finder.evaluated.items() if (found := finder.stale(weight, uses, learned))]


class _StaleFinder:
    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    @cached_property
    def evaluated(self) -> dict[int, list[tuple[int, int]]]:
        """For the weight of each batch norm that is not trained: its calls in evaluation mode, with the mean taken."""
        index, changes = self._index, self._index.recording.changes
        columns = (changes.column(name) for name in ("op", "field"))
        in_training = {op for op, field in zip(*columns, strict=True) if field == Field.WRITTEN}
        found: dict[int, list[tuple[int, int]]] = {}
        for op in index.calls_of(lambda name: name == "F.batch_norm"):
            taken = index.uses.of(op)
            if op not in in_training and len(taken) == _TAKEN and taken[_WEIGHT] not in self._lives.steps:
                found.setdefault(taken[_WEIGHT], []).append((op, taken[_MEAN]))
        return found

    def stale(self, weight: int, uses: list[tuple[int, int]], learned: dict[int, int]) -> StaleStatistics | None:
        """A weight that follows a trained one, where its norm's statistics stay as they were."""
        index = self._index
        last, mean = uses[-1]
        storage = index.storage_at(mean, last)
        ops, source = self._followed(weight)
        if len(ops) < RUNS or storage < 0 or index.recording.storages[storage].op >= ops[0]:
            return None
        used = tuple(op for op, one in uses if op > ops[RUNS - 1] and index.storage_at(one, op) == storage)
        since_then = learned.get(index.storage_at(source, ops[-1]), NONE)
        if not used or since_then < ops[0] or self._written_last.get(storage, NONE) >= ops[0]:
            return None
        return StaleStatistics(weight, source, ops, used)

    def _followed(self, weight: int) -> tuple[tuple[int, ...], int]:
        """The writes of a weight that took a trained one into it, with a step between each two; and that one."""
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
        """For each weight of :attr:`evaluated` the ops that wrote it, or put it on other memory; steps are none."""
        index, found = self._index, dict[int, set[int]]()
        on = {index.storage_at(weight, NONE): weight for weight in self.evaluated}
        for weight in self.evaluated:
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

    @cached_property
    def _written_last(self) -> dict[int, int]:
        return last_written(self._index)
