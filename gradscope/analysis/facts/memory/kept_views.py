"""Small views that are kept, each of which keeps a large memory block alive that nothing else needs.

A view's block lives as long as the view, whatever part of it the view shows. What is looked for is a statement whose
views pile up: each on a block of its own that was made for it, and that no other name holds and no later call reads.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, REQUIRES_GRAD
from gradscope.recording.rows import BindingKind, OpKind

RUNS = 4
"""Views of one statement that are there at once, from which on they pile up."""
TIMES_LARGER = 8
_ITERATION = "torch.Tensor.__iter__"
WORTH_SAYING = 32 * 1024
"""Bytes that all blocks hold beyond what the views show."""
WORTH_SAYING_OF_TORCHS = 16 * 1024 * 1024
"""The same where no tensor ever showed more of the blocks: torch made them larger than what it computed, as the block
of a mean that was first that of all its terms. No line of the program's chose a part."""


@dataclass(frozen=True)
class KeptViews:
    """What the views of one statement keep, where there are most of them at once."""

    views: tuple[int, ...]
    shown: int
    """Bytes that the views show."""
    held: int
    """Bytes of their memory blocks."""


def kept_views(index: Index, sharing: StorageGroups, passes: Passes) -> list[KeptViews]:
    """The statements whose views pile up, in the order of their first view."""
    return _Finder(index, sharing, passes).find()


class _Finder:
    def __init__(self, index: Index, sharing: StorageGroups, passes: Passes) -> None:
        self._index = index
        self._sharing = sharing
        self._passes = passes
        tensors = index.recording.tensors
        self._made_at, self._died, self._on = (tensors.column(name) for name in ("op", "died", "storage"))

    def find(self) -> list[KeptViews]:
        found: dict[int, KeptViews] = {}
        for views in self._by_call().values():
            moment, several = self._most_at_once(views) if len(views) >= RUNS else (NONE, [])
            rounds = self._rounds(views)
            alone = [view for view in several if self._is_small_part(view) and self._is_alone(view, rounds)]
            views_there = self._beside(views, alone, moment)
            kept = KeptViews(views_there, sum(map(self._nbytes, views_there)), sum(map(self._block, alone)))
            enough = WORTH_SAYING if any(map(self._is_part, alone)) else WORTH_SAYING_OF_TORCHS
            is_worth_saying = kept.held - kept.shown >= enough
            if len(alone) >= RUNS and is_worth_saying and kept.shown * TIMES_LARGER <= kept.held:
                found[self._index.op_statement[self._made_at[alone[-1]]]] = kept
        return list(found.values())

    def _by_call(self) -> dict[int, list[int]]:
        """Views without a graph, much smaller than their block, by the span that made them.

        What torch's own Python sliced and keeps for itself (masks of pruning) is no part that the program chose; what
        a loop over a tensor gives is.
        """
        index, flags = self._index, self._index.recording.tensors.column("flags")
        spans, kinds = (index.recording.ops.column(name) for name in ("span", "kind"))
        external = index.recording.storages.column("external")
        found: dict[int, list[int]] = {}
        for tensor in sorted(self._sharing.alias_row):
            op = self._made_at[tensor]
            if op >= index.op_count or flags[tensor] & (EXTERNAL | REQUIRES_GRAD) or self._on[tensor] < 0:
                continue
            if (
                index.op_statement[op] == NOWHERE
                or (kinds[op] == OpKind.GROUP and index.func(op) != _ITERATION)
                or tensor in index.moves
                or external[self._on[tensor]]
            ):
                continue
            if self._nbytes(tensor) * TIMES_LARGER <= self._block(tensor) and not self._is_saved[self._on[tensor]]:
                found.setdefault(spans[op], []).append(tensor)
        return found

    @cached_property
    def _is_saved(self) -> bytearray:
        """1 for each storage that a graph keeps which no backward pass used up: the view is not what keeps it."""
        saved = self._index.recording.saved
        kept = bytearray(len(self._index.recording.storages))
        for node, storage in zip(saved.column("node"), saved.column("storage"), strict=True):
            if storage >= 0 and self._passes.used_up_at[node] < 0:
                kept[storage] = 1
        return kept

    def _nbytes(self, tensor: int) -> int:
        recording = self._index.recording
        return recording.layouts.column("nbytes")[recording.tensors.column("layout")[tensor]]

    def _block(self, tensor: int) -> int:
        return self._index.recording.storages.column("nbytes")[self._on[tensor]]

    def _most_at_once(self, views: list[int]) -> tuple[int, list[int]]:
        """The last op at which the views of one call lived on the most blocks, and one of them on each of these."""
        events = [(self._made_at[view], self._on[view], 1) for view in views]
        events += [(self._died[view], self._on[view], -1) for view in views if self._died[view] != NONE]
        alive, blocks, most, moment = Counter[int](), 0, 0, NONE
        for op, block, change in sorted(events):
            alive[block] += change
            blocks += change if alive[block] == (change == 1) else 0
            if blocks >= most and change == 1:
                most, moment = blocks, op
        there = [view for view in views if self._made_at[view] <= moment and not 0 <= self._died[view] <= moment]
        return moment, list({self._on[view]: view for view in there}.values())

    def _is_small_part(self, view: int) -> bool:
        """Whether a view, and the other small views that live as long as it, are little of their block together."""
        on_block = self._sharing.tensors_on[self._on[view]]
        last = self._died[view]
        there = (one for one in on_block if self._died[one] == NONE or 0 <= last <= self._died[one])
        sizes = [size for size in map(self._nbytes, there) if size * TIMES_LARGER <= self._block(view)]
        return sum(sizes) * TIMES_LARGER <= self._block(view)

    def _is_part(self, view: int) -> bool:
        """Whether another tensor ever showed more of the block than a view does, or nothing else was seen on it."""
        others = [one for one in self._sharing.tensors_on[self._on[view]] if one != view]
        return not others or any(self._nbytes(one) > self._nbytes(view) for one in others)

    def _beside(self, views: list[int], alone: list[int], moment: int) -> tuple[int, ...]:
        """The views of one call that are there at a moment, of all that it made of some blocks."""
        blocks = {self._on[view] for view in alone}
        return tuple(
            view
            for view in views
            if self._on[view] in blocks and self._made_at[view] <= moment and not 0 <= self._died[view] <= moment
        )

    def _rounds(self, views: list[int]) -> tuple[array[int], array[int]]:
        """For each block in turn the first and the last op that made one of the views of it: there may be several."""
        first, last = array("i"), array("i")
        block = NONE
        for view in views:
            if self._on[view] != block:
                block = self._on[view]
                first.append(self._made_at[view])
                last.append(self._made_at[view])
            last[-1] = self._made_at[view]
        return first, last

    def _is_alone(self, view: int, rounds: tuple[array[int], array[int]]) -> bool:
        """Whether a view's block was made since the views before it, and nothing but the views needed it for long.

        What a view was made from stays as long as the view: that it is there says nothing. That it is read when the
        next view was made, or is held in an object or at the end of the run, does.
        """
        index, (first, last) = self._index, rounds
        at = bisect_right(first, self._made_at[view]) - 1
        previous = last[at - 1] if at else NONE
        after = first[at + 1] if at + 1 < len(first) else index.op_count
        if index.recording.storages.column("op")[self._on[view]] <= previous or not self._was_repeated(view):
            return False
        own = index.op_statement[self._made_at[view]]
        for other in self._sharing.tensors_on[self._on[view]]:
            if other == view:
                continue
            made_at = self._made_at[other]
            is_of_same_run = made_at < index.op_count and index.op_statement[made_at] == own and made_at > previous
            if not is_of_same_run and (other in self._held or any(op >= after for op in index.users.of(other))):
                return False
        return True

    def _was_repeated(self, view: int) -> bool:
        """Whether the block comes from a call that was made again and again, as the view does."""
        op = self._index.recording.storages.column("op")[self._on[view]]
        return op < self._index.op_count and self._index.calls_like(op) >= RUNS

    @cached_property
    def _held(self) -> set[int]:
        return held_tensors(self._index)


def held_tensors(index: Index) -> set[int]:
    """Tensors that are held in an object, a list or a dict, or at the end of the run.

    Not those that a name at the end holds only since its loop ended there: others had the name before.
    """
    bindings, strings = index.recording.bindings, index.recording.strings
    columns = (bindings.column(name) for name in ("name", "tensor", "span", "kind"))
    died, made_at = (index.recording.tensors.column(name) for name in ("died", "op"))

    def is_last_of_loop(tensor: int) -> bool:
        return made_at[tensor] < index.op_count and index.calls_like(made_at[tensor]) >= RUNS

    return {
        tensor
        for name, tensor, span, kind in zip(*columns, strict=True)
        if (span == NONE and died[tensor] == NONE and not is_last_of_loop(tensor))
        or kind == BindingKind.MEMBER
        or "." in strings[name]
    }
