"""Which tensors share memory: byte ranges, overlaps, and which version counter each has."""

from __future__ import annotations

import ast
from array import array
from collections import Counter
from functools import lru_cache
from typing import NamedTuple

from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import Index
from gradscope.analysis.report_model import AliasGroup, AliasMember
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import Tensor

MEMBERS_SHOWN = 24
"""Tensors described of one memory block; a loop may put any number on it."""


class Letters:
    """Letters of memory blocks, given in the order in which they are asked for: A, B, …, Z, AA, AB."""

    def __init__(self) -> None:
        self._given: dict[int, str] = {}

    def of(self, storage: int) -> str:
        """The letter of a storage; empty for NONE."""
        if storage < 0:
            return ""
        known = self._given.get(storage)
        if known is None:
            known = self._given[storage] = letter(len(self._given))
        return known


def letter(number: int) -> str:
    """A, B, …, Z, AA, AB … for 0, 1, …"""
    text = ""
    number += 1
    while number:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("A") + digit) + text
    return text


def byte_range(shape: tuple[int, ...], stride: tuple[int, ...], offset: int, itemsize: int) -> tuple[int, int]:
    """First byte, and the byte after the last, that a strided tensor spans in its memory block."""
    first = offset * itemsize
    if 0 in shape:
        return first, first
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    return first, (last + 1) * itemsize


def overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two byte ranges share a byte."""
    return one[0] < other[1] and other[0] < one[1] and one[0] < one[1] and other[0] < other[1]


class Sharing(NamedTuple):
    """One memory block with more than one tensor on it."""

    storage: int
    tensors: list[int]


class VersionGroups:
    """Which tensors share one version counter, as far as it was measured."""

    def __init__(self, index: Index) -> None:
        self._parent: dict[int, int] = {}
        self._unmeasured: set[int] = set()
        aliases = index.recording.aliases
        for tensor, base, shares in zip(
            aliases.column("tensor"), aliases.column("base"), aliases.column("shares_version"), strict=True
        ):
            self._parent[tensor] = base if shares == 1 else tensor
            if shares == NONE:
                self._unmeasured.add(tensor)

    def is_measured(self, tensor: int) -> bool:
        """Whether a tensor's counter was compared with that of its base (or it has none, or memory of its own)."""
        return self.of(tensor) not in self._unmeasured

    def of(self, tensor: int) -> int:
        """The tensor that stands for the group."""
        seen = []
        while (parent := self._parent.get(tensor, tensor)) != tensor:
            seen.append(tensor)
            tensor = parent
        for passed in seen:
            self._parent[passed] = tensor
        return tensor


class StorageGroups:
    """Memory blocks on which there is more than one tensor."""

    def __init__(self, index: Index, names: BestNames) -> None:
        self._index = index
        self._names = names
        self.versions = VersionGroups(index)
        aliases = index.recording.aliases
        self.alias_row = {tensor: row for row, tensor in enumerate(aliases.column("tensor"))}
        self.tensors_on = self._tensors_on(aliases.column("tensor"))

    def _tensors_on(self, aliasing: array[int]) -> dict[int, list[int]]:
        """Tensors of every storage that has an alias, in the order in which they were first seen."""
        storage_of = self._index.recording.tensors.column("storage")
        shared = {storage_of[tensor] for tensor in aliasing if storage_of[tensor] >= 0}
        tensors_on: dict[int, list[int]] = {storage: [] for storage in shared}
        for tensor, storage in enumerate(storage_of):
            if storage in tensors_on:
                tensors_on[storage].append(tensor)
        return tensors_on

    def base_of(self, tensor: int) -> int:
        """The tensor it was made from, on whose memory it is; NONE for memory of its own."""
        row = self.alias_row.get(tensor, NONE)
        return self._index.recording.aliases.column("base")[row] if row >= 0 else NONE

    def offset_of(self, tensor: int) -> int:
        """Elements from the start of the memory block."""
        row = self.alias_row.get(tensor, NONE)
        return self._index.recording.aliases.column("offset")[row] if row >= 0 else 0

    def named_on(self, storage: int) -> list[int]:
        """Tensors with a name on a shared storage; one for each name, the last that bore it."""
        by_name = {self._names.of(tensor): tensor for tensor in self.tensors_on.get(storage, ())}
        return [tensor for tensor in by_name.values() if self._names.is_named(tensor)]

    def sharings(self) -> tuple[list[Sharing], dict[int, int]]:
        """Blocks that two names or more share, one for equal sets of names.

        Returns:
            The last block of each set of names, in the order in which the sets were first seen, and for each of those
            blocks how many there were.
        """
        last: dict[tuple[str, ...], Sharing] = {}
        counts: dict[tuple[str, ...], int] = {}
        weights, ops = self._index.weights, self._index.recording.storages.column("op")
        for storage, tensors in sorted(self.tensors_on.items()):
            by_name = {self._names.of(tensor): tensor for tensor in tensors if self._names.is_named(tensor)}
            if len(by_name) < 2:
                continue
            key = tuple(by_name)[:MEMBERS_SHOWN]
            last[key] = Sharing(storage, list(by_name.values())[:MEMBERS_SHOWN])
            counts[key] = counts.get(key, 0) + weights[ops[storage]]
        return list(last.values()), {sharing.storage: counts[key] for key, sharing in last.items()}

    def describe(self, letters: Letters) -> tuple[AliasGroup, ...]:
        """Alias groups as a report shows them."""
        sharings, counts = self.sharings()
        return tuple(self._describe(sharing, counts[sharing.storage], letters) for sharing in sharings)

    def _describe(self, sharing: Sharing, count: int, letters: Letters) -> AliasGroup:
        recording = self._index.recording
        storage = recording.storages[sharing.storage]
        ranges = {tensor: self.range_of(tensor) for tensor in sharing.tensors}
        numbers = self._numbers_of_counters(sharing.tensors)
        members = []
        for tensor, number in zip(sharing.tensors, numbers, strict=True):
            others = (other for other in sharing.tensors if other != tensor)
            touching = tuple(self._names.of(other) for other in others if overlap(ranges[tensor], ranges[other]))
            members.append(self._member(tensor, ranges[tensor], number, touching))
        first = recording.tensors[sharing.tensors[0]]
        return AliasGroup(
            storage=letters.of(sharing.storage),
            nbytes=storage.nbytes,
            device=recording.text(recording.layouts[first.layout].device),
            count=count,
            members=tuple(members),
            version_groups=len(set(numbers) - {0}),
        )

    def _numbers_of_counters(self, tensors: list[int]) -> list[int]:
        """A number for each version counter; 0 for tensors of which none was compared with another one."""
        counters = [self.versions.of(tensor) for tensor in tensors]
        together = Counter(counters)
        numbers: dict[int, int] = {}
        for tensor, counter in zip(tensors, counters, strict=True):
            if together[counter] > 1 or self.versions.is_measured(tensor):
                numbers.setdefault(counter, len(numbers) + 1)
        compared = sum(together[counter] for counter in numbers)
        return [numbers.get(counter, 0) if compared > 1 else 0 for counter in counters]

    def _member(self, tensor: int, span: tuple[int, int], group: int, touching: tuple[str, ...]) -> AliasMember:
        recording = self._index.recording
        row = recording.tensors[tensor]
        layout = recording.layouts[row.layout]
        made = self._made_at(row)
        return AliasMember(
            name=self._names.of(tensor),
            line=self._index.op_line(row.op if made < 0 else made),
            op=self._index.call_name(made) if made >= 0 else "",
            shape=recording.text(layout.shape),
            stride=recording.text(layout.stride),
            offset=self.offset_of(tensor),
            first_byte=span[0],
            end_byte=span[1],
            base=self._names.of(self.base_of(tensor)),
            version_group=group,
            overlaps=touching,
        )

    def _made_at(self, row: Tensor) -> int:
        """The op that made a tensor or, for one that was first seen later (a parameter), its memory; NONE if unseen."""
        if not row.flags & EXTERNAL:
            return row.op
        storage = self._index.recording.storages[row.storage]
        return NONE if storage.external else storage.op

    def range_of(self, tensor: int) -> tuple[int, int]:
        """The bytes of its memory block that a tensor spans (all of its elements lie in there)."""
        recording = self._index.recording
        layout = recording.layouts[recording.tensors.column("layout")[tensor]]
        shape, stride = numbers_in(recording.text(layout.shape)), numbers_in(recording.text(layout.stride))
        count = 1
        for size in shape:
            count *= size
        if len(shape) != len(stride) or not count:
            return 0, layout.nbytes
        return byte_range(shape, stride, self.offset_of(tensor), layout.nbytes // count)


@lru_cache(maxsize=4096)
def numbers_in(text: str) -> tuple[int, ...]:
    """``(2, 3)`` as numbers; empty where a size is symbolic."""
    try:
        value = ast.literal_eval(text) if text else ()
    except (ValueError, SyntaxError):
        return ()
    return value if isinstance(value, tuple) and all(isinstance(item, int) for item in value) else ()
