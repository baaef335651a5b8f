"""Results that a loop put into a list, and that it wrote in place before the list was read.

``hidden[done] = 0`` on top of a recurrent loop: what the round before has put into the list is this tensor. Autograd
raises nothing where no node had saved its values; the list's item is zero there, and passes no gradient on.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.storage_groups import StorageGroups
from gradscope.analysis.facts.writes import writes_by_program
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.names.put_statements import Put
from gradscope.frames.names.written_after_put import written_after_put
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

_JOINS = re.compile(r"torch\.(stack|cat|concat|concatenate|vstack|hstack|dstack)")
_ROUNDS = 2
"""Results of later rounds that are there when one is read: then it was reached by the list, and not as the state."""


class OverwrittenItem(NamedTuple):
    """What one line wrote, the last time."""

    tensor: int
    written: int
    """The op that wrote it."""
    read: int
    """The op that took it from the list."""
    file: int
    put: Put
    name: str
    times: int


class _Written(NamedTuple):
    op: int
    tensor: int


class OverwrittenItems:
    """Finds them in one recording.

    Args:
        index: The recording.
        passes: Its backward passes.
        sharing: Which tensors share memory.
        names: For each tensor the names under which it was seen, with op and span.
    """

    def __init__(
        self, index: Index, passes: Passes, sharing: StorageGroups, names: dict[int, list[tuple[int, int, int]]]
    ) -> None:
        self._index = index
        self._passes = passes
        self._sharing = sharing
        self._names = names
        self._made_at = index.recording.tensors.column("op")
        self._siblings: dict[tuple[int, int], list[int]] = {}

    def found(self) -> Iterator[OverwrittenItem]:
        """One for each line that writes, and each that puts what it writes into a list."""
        index, last = self._index, dict[tuple[int, int, int], OverwrittenItem]()
        for op, tensor in self._writes():
            statement = index.statements[index.op_statement[op]]
            names = {index.recording.text(name) for name, *_ in self._names.get(tensor, ())}
            text = index.recording.files[statement.file].text if statement.file >= 0 else ""
            put = written_after_put(text, int(index.op_line(op)), frozenset(names)) if text and names else None
            if put is None or (read := self._read_from_list(tensor, op)) < 0:
                continue
            key = (statement.file, int(statement.line), put[0].line)
            times = index.weights[op] + (last[key].times if key in last else 0)
            last[key] = OverwrittenItem(tensor, op, read, statement.file, *put, times)
        yield from last.values()

    def _writes(self) -> Iterator[_Written]:
        """Calls of the program's that write a result with a graph, itself or through a view, once each."""
        index, seen = self._index, set[_Written]()
        flags, kinds = index.recording.tensors.column("flags"), index.recording.ops.column("kind")
        for op, tensor, _, _ in writes_by_program(index):
            while (base := self._sharing.base_of(tensor)) >= 0:
                tensor = base
            is_result = flags[tensor] & (REQUIRES_GRAD | LEAF | EXTERNAL) == REQUIRES_GRAD
            one = _Written(op, tensor)
            if is_result and kinds[op] == OpKind.CALL and self._made_at[tensor] < op and one not in seen:
                seen.add(one)
                if index.op_statement[op] != NOWHERE:
                    yield one

    def _read_from_list(self, tensor: int, written: int) -> int:
        """The first op after a write that took the tensor together with, or after, what later rounds made, for a pass.

        NONE where there is none: then nothing shows that the list was read.
        """
        index, walked = self._index, self._passes.first_walked_at
        nodes, made = index.recording.tensors.column("node"), self._made_like(tensor)
        mine = self._made_at[tensor]
        for read in index.users.of(tensor):
            if read <= written:
                continue
            later = bisect_left(made, read) - bisect_left(made, max(written, mine + 1))
            others = {self._made_at[one] for one in index.uses.of(read)} - {mine}
            is_joined = _JOINS.fullmatch(index.func(read)) and any(self._is_like(at, mine) for at in others)
            is_of_list = later >= _ROUNDS or is_joined
            if is_of_list and any(nodes[one] >= 0 and walked[nodes[one]] >= 0 for one in index.tensors_made(read)):
                return read
        return NONE

    def _made_like(self, tensor: int) -> list[int]:
        """The ops, in order, that made such a tensor at the same line."""
        op, funcs = self._made_at[tensor], self._index.recording.ops.column("func")
        key = (self._index.op_statement[op], funcs[op])
        if key not in self._siblings:
            same = (at for at, func in enumerate(funcs) if func == key[1] and self._index.op_statement[at] == key[0])
            self._siblings[key] = list(same)
        return self._siblings[key]

    def _is_like(self, op: int, other: int) -> bool:
        funcs, statements = self._index.recording.ops.column("func"), self._index.op_statement
        return op < len(funcs) and funcs[op] == funcs[other] and statements[op] == statements[other]
