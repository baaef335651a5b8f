"""Master copies of weights that were made before other values were loaded into the weights, and that took their place.

An optimizer steps the copies by gradients that are handed to them, and what it makes of them is put into the weights:
the first time, what was loaded is gone. Not lost is what the weights held anyway when they were copied, and what is put
there once the copies were stepped (an average, for an evaluation) is meant to go again.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from functools import cached_property
from math import prod
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, first_after, last_before
from gradscope.analysis.facts.shapes import numbers_in
from gradscope.analysis.facts.writes import all_steps, all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL

_COPIES = re.compile(
    r"(Tensor|torch|nn\.Module|nn\.Parameter)\."
    r"(clone|float|double|half|bfloat16|to|type|type_as|cpu|cuda|contiguous|__deepcopy__)"
)
_JOINS = re.compile(r"torch\.(cat|concat|hstack)|nn\.utils\.parameters_to_vector")
"""What gives the values of tensors in memory of their own: of one, or of several in a row."""
_LISTED = "torch._foreach_copy_"
_INTO = ("Tensor.copy_", "nn.Module.load_state_dict", _LISTED)
_SETS = "Tensor.data.__set__"
"""What puts the values of one tensor in the place of all of another's."""


class MasterBeforeLoad(NamedTuple):
    """One parameter."""

    tensor: int
    copied: int
    """The call that made the copy."""
    load: int
    """The call that put other values into the parameter."""
    step: int
    """The first step of the copy."""
    back: int
    """The call that put the copy in the place of what was loaded."""


class MastersBeforeLoads:
    """Those of one recording."""

    def __init__(self, index: Index, lives: GradientLives) -> None:
        self._index = index
        self._lives = lives

    def found(self) -> Iterator[MasterBeforeLoad]:
        """One for each parameter whose loaded values the first step of its copy took away."""
        index, said = self._index, set[int]()
        for master, step in sorted(self._first_steps().items()):
            block = index.storage_at(master, step)
            copied = self._filled_at(block, step)
            if copied < 0:
                continue
            origins = self._origins(block, copied + 1)
            for tensor in self._lives.passes:
                on = index.storage_at(tensor, copied)
                if tensor in said or on == block or origins.get(on, NONE) < 0:
                    continue
                if self._written_between(on, origins[on], copied):
                    continue
                found = self._lost(tensor, block, copied, step)
                if found is not None:
                    said.add(tensor)
                    yield found

    def _first_steps(self) -> dict[int, int]:
        """What optimizers step though no pass gives it a gradient (one is handed to it), and its first step."""
        index, steps, found = self._index, set(all_steps(self._index)), dict[int, int]()
        made_at = index.recording.tensors.column("op")
        for op, tensor, *_ in all_writes(index) if steps else ():
            if op in steps and made_at[tensor] < op and tensor not in self._lives.passes and index.is_leaf(tensor):
                found.setdefault(tensor, op)
        return found

    def _filled_at(self, block: int, step: int) -> int:
        """The call that gave memory the values that a step finds; NONE where it did more than copy."""
        written = last_before(self._written.get(block, []), step)
        if written < 0:
            return self._made(block)[0]
        return written if any(op == written for op, _ in self._puts.get(block, ())) else NONE

    def _lost(self, tensor: int, block: int, copied: int, step: int) -> MasterBeforeLoad | None:
        """What the copy on a memory block took the place of, where a pass used that."""
        puts = self._puts_into(tensor)
        before = [(op, source) for op, source in puts if copied < op < step]
        back = next((op for op, source in puts if op > step and self._is_of(source, block, op)), NONE)
        if not before or back < 0:
            return None
        load, source = before[-1]
        passed = first_after(self._lives.passes[tensor], load)
        others = [op for op, _ in puts if step < op < back]
        if not 0 <= passed < back or others or self._is_same(source, load, tensor, copied, block):
            return None
        return MasterBeforeLoad(tensor, copied, load, step, back)

    def _is_of(self, source: int, block: int, op: int) -> bool:
        """Whether memory has the values of another block."""
        return block in self._origins(source, op)

    def _is_same(self, source: int, load: int, tensor: int, copied: int, block: int) -> bool:
        """Whether what was loaded are the values that the parameter, and its copy, had before."""
        on = self._index.storage_at(tensor, copied)
        theirs, own = self._origins(source, load), self._origins(on, copied)
        return block in theirs or any(
            one in own and not self._written_between(one, *sorted((taken, own[one]))) for one, taken in theirs.items()
        )

    def _origins(self, block: int, until: int) -> dict[int, int]:
        """The memory blocks of whose values a block has (some of) before an op, and when each was read; with itself."""
        found, todo = {block: until}, [(block, until)]
        while todo:
            one, before = todo.pop()
            made, sources = self._made(one)
            last = [put for put in self._puts.get(one, ()) if put[0] < before][-1:]
            for op, source in last or [(made, source) for source in sources if made < before]:
                if source >= 0 and source not in found:
                    found[source] = op
                    todo.append((source, op))
        return found

    def _made(self, block: int) -> tuple[int, list[int]]:
        """The call that made memory, and the memory whose values it put there, if it copied; NONE for no call."""
        index, storages = self._index, self._index.recording.storages
        if block in self._deep_copies:
            return self._deep_copies[block]
        made = storages.column("op")[block] if block >= 0 and not storages.column("external")[block] else NONE
        if not 0 <= made < index.op_count:
            return NONE, []
        is_copy = _COPIES.fullmatch(index.func(made)) or _JOINS.fullmatch(index.func(made))
        return made, [index.storage_at(one, made - 1) for one in index.uses.of(made)] if is_copy else []

    @cached_property
    def _deep_copies(self) -> dict[int, tuple[int, list[int]]]:
        """The memory that a deep copy gave for that of a tensor: what it makes is seen in its memo before it ends."""
        index, found = self._index, dict[int, tuple[int, list[int]]]()
        for op in index.calls_of("Tensor.__deepcopy__".__eq__):
            for one in index.results.of(op):
                found.setdefault(index.storage_at(one, op), (op, [index.storage_at(index.uses.of(op)[0], op)]))
        return found

    def _puts_into(self, tensor: int) -> list[tuple[int, int]]:
        """Where the program gave a parameter other values, or put it on other memory, and whose those are."""
        index, moves = self._index, self._index.moves.get(tensor, ())
        blocks = {index.recording.tensors.column("storage")[tensor], *(storage for _, storage in moves)}
        put = {
            one for block in blocks for one in self._puts.get(block, ()) if index.storage_at(tensor, one[0]) == block
        }
        return sorted(put | {one for one in moves if one[0] < index.op_count and index.func(one[0]) == _SETS})

    def _written_between(self, block: int, first: int, last: int) -> bool:
        written = self._written.get(block, [])
        return bisect_right(written, first) < bisect_right(written, last - 1)

    @cached_property
    def _written(self) -> dict[int, list[int]]:
        """For each memory block the ops that wrote into it, in order; what a tensor was born with is no write."""
        index, found = self._index, dict[int, list[int]]()
        made_at, flags = (index.recording.tensors.column(name) for name in ("op", "flags"))
        for op, tensor, *_ in all_writes(index):
            if op != made_at[tensor] or flags[tensor] & EXTERNAL:
                found.setdefault(index.storage_at(tensor, op), []).append(op)
        return found

    @cached_property
    def _puts(self) -> dict[int, list[tuple[int, int]]]:
        """For each memory block the calls that put other values into all that a tensor on it has, and whose."""
        index, found = self._index, dict[int, list[tuple[int, int]]]()
        for op in index.calls_of(_INTO.__contains__):
            taken = list(index.uses.of(op))
            half = len(taken) // 2
            is_listed = index.func(op) == _LISTED
            into_each, sources = (taken[:half], taken[half:]) if is_listed else (taken[::2], taken[1::2])
            for into, source in zip(into_each, sources, strict=False):
                on, of = index.storage_at(into, op), index.storage_at(source, op)
                if on >= 0 and of >= 0 and on != of and self._size(into, op) == self._size(source, op):
                    found.setdefault(on, []).append((op, of))
        return found

    def _size(self, tensor: int, op: int) -> int:
        recording = self._index.recording
        layout = recording.layouts[self._index.layout_at(tensor, op)]
        return prod(numbers_in(recording.text(layout.shape)))
