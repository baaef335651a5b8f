"""What was taken without a copy, and is then mixed with what it was taken from: an average of a weight with itself.

``shadow[name] = p.data`` and later ``shadow[name].mul_(decay).add_(p.data, alpha=1 - decay)``: the statement writes one
tensor in place with values of another one, and both are the same memory.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import all_writes, is_step, writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, PARAMETER

_TAKES = re.compile(r"Tensor\.(detach|data\.__get__)|.*\.state_dict")
_MIXES = re.compile(r"Tensor\.(add_|sub_|lerp_|copy_|__iadd__|addcmul_)|torch\._foreach_(add_|lerp_|copy_)")


class MixedSnapshot(NamedTuple):
    """One tensor that is mixed with its own memory."""

    tensor: int
    """What was to be a copy."""
    source: int
    taken: int
    """The op that put it on the memory of the source."""
    written: int
    """The op that mixed them."""


def mixed_snapshots(index: Index, names: BestNames, sharing: StorageGroups) -> dict[int, list[MixedSnapshot]]:
    """What each statement took that another one mixes with its source."""
    return _MixFinder(index, names, sharing).by_statement()


class _MixFinder:
    def __init__(self, index: Index, names: BestNames, sharing: StorageGroups) -> None:
        self._index = index
        self._names = names
        self._sharing = sharing
        tensors = index.recording.tensors
        self._made_at, self._flags = (tensors.column(name) for name in ("op", "flags"))
        self._looked_at: set[tuple[int, int, int]] = set()

    def by_statement(self) -> dict[int, list[MixedSnapshot]]:
        index, seen = self._index, set[int]()
        found: dict[int, list[MixedSnapshot]] = {}
        for op, tensor, _, _ in writes_by_program(index):
            if is_step(index, op) or not _MIXES.fullmatch(index.func(op)) or index.op_statement[op] == NOWHERE:
                continue
            if index.storage_at(tensor, op) not in self._sharing.tensors_on:
                continue
            mixed = self._mixed(op, tensor)
            if mixed is not None and mixed.tensor not in seen:
                seen.add(mixed.tensor)
                found.setdefault(index.op_statement[mixed.taken], []).append(mixed)
        return found

    def _mixed(self, op: int, written: int) -> MixedSnapshot | None:
        target = self._before_statement(written, op)
        for use in self._index.uses.of(op):
            for source in self._sources(use, op) if use != written else ():
                pair = (target, source, self._index.op_statement[op])
                if source == target or pair in self._looked_at or not self._is_same_memory(source, target, op):
                    continue
                mixed = self._taken(target, source, op) or self._taken(source, target, op)
                if mixed is not None:
                    self._looked_at.add(pair)
                    return mixed
        return None

    def _is_in_statement(self, tensor: int, op: int) -> bool:
        """Whether the statement of an op made a tensor."""
        made_at, statements = self._made_at[tensor], self._index.op_statement
        return made_at <= op and not self._flags[tensor] & EXTERNAL and statements[made_at] == statements[op]

    def _before_statement(self, tensor: int, op: int) -> int:
        """The tensor that a statement took without a copy (``p`` of ``p.data``), which was there before it."""
        while self._is_in_statement(tensor, op) and _TAKES.fullmatch(self._index.method(self._made_at[tensor])):
            base = self._sharing.base_of(tensor)
            if base < 0:
                break
            tensor = base
        return tensor

    def _sources(self, tensor: int, op: int) -> Iterator[int]:
        """What was there before a statement that it made a tensor from."""
        todo, seen = [tensor], set[int]()
        while todo:
            one = self._before_statement(todo.pop(), op)
            if one in seen:
                continue
            seen.add(one)
            if self._is_in_statement(one, op):
                todo.extend(use for use in self._index.uses.of(self._made_at[one]) if use < one)
            else:
                yield one

    def _is_same_memory(self, one: int, other: int, op: int) -> bool:
        storage = self._index.storage_at(one, op)
        is_one = storage >= 0 and storage == self._index.storage_at(other, op)
        return is_one and self._sharing.range_of(one) == self._sharing.range_of(other)

    def _taken(self, tensor: int, source: int, op: int) -> MixedSnapshot | None:
        """The way a kept tensor came onto its source's memory, which something else wrote before both were mixed."""
        index, made_at = self._index, self._made_at[tensor]
        taken = NONE
        if tensor in index.moves and self._flags[tensor] & self._flags[source] & PARAMETER:
            taken = max((at for at, _ in index.moves[tensor] if at < op), default=NONE)
        elif _TAKES.fullmatch(index.method(made_at)) and not self._flags[tensor] & EXTERNAL:
            is_kept = any("[" in name or "." in name for name in self._names.all_of([tensor])[tensor])
            # Both may have been taken of one weight, the one later than the other: two calls of state_dict().
            base = self._sharing.base_of(tensor)
            is_from = base == source or (base == self._sharing.base_of(source) >= 0 and made_at < self._made_at[source])
            taken = made_at if is_kept and is_from else NONE
        if taken < 0 or index.op_statement[taken] in (NOWHERE, index.op_statement[op]):
            return None
        writes = self._writes.get(index.storage_at(tensor, op), [])
        between = writes[bisect_right(writes, taken) : bisect_left(writes, op)]
        is_changed = any(index.op_statement[at] != index.op_statement[op] for at in between)
        return MixedSnapshot(tensor, source, taken, op) if is_changed else None

    @cached_property
    def _writes(self) -> dict[int, list[int]]:
        """For each shared memory block the ops that wrote it."""
        found: dict[int, list[int]] = {}
        for op, tensor, _, _ in all_writes(self._index):
            storage = self._index.storage_at(tensor, op)
            if op < self._index.op_count and storage in self._sharing.tensors_on:
                found.setdefault(storage, []).append(op)
        return found
