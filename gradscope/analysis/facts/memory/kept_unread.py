"""Tensors without graphs that are put into a list or dict step after step, where they stay and nothing reads them.

What reads or empties it is looked for in the text; that nothing did was seen too: all of them were there when the last
step came, and no call took one of them after the next few had come.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.names.unread_containers import Container, PutThere, unread_containers
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

AT_LEAST = 8
"""Tensors that are kept, from which on it is that which grows."""
_STEPS = 4
"""Backward passes from the first to the last of them, from which on it grows with training."""
_BYTES_EACH, _BYTES = 256, 4096
"""Memory of one, and of all, from which on they are no log of numbers."""
_ITEM = re.compile(r"(\w+)(?:\[[^\]]*\])+(?:\.\w+)?$")
"""The list or dict in what an item of it is called."""


class KeptUnread(NamedTuple):
    """What one list or dict keeps."""

    file: int
    put: PutThere
    tensors: tuple[int, ...]
    nbytes: int
    until_the_end: bool
    """Nothing let go of them; else a function that held them returned after the last backward pass."""


def kept_unread(index: Index, names: dict[int, list[tuple[int, int, int]]]) -> Iterator[KeptUnread]:
    """One for each such list or dict, where one place puts into it what stays.

    Args:
        index: The recording.
        names: For each tensor the names under which it was seen, with op and span.
    """
    steps = index.of_kind(OpKind.BACKWARD)
    files = [number for number, file in enumerate(index.recording.files) if file.is_user]
    texts = tuple(index.recording.files[number].text for number in files) if len(steps) >= _STEPS else ()
    ran = {(one.file, _last(index.recording.text(one.function))) for one in index.statements}
    made_at = index.recording.tensors.column("op")
    for container in unread_containers(texts):
        if any((files[one.file], one.function) in ran for one in container.unnamed_reads):
            continue
        kept = _OfContainer(index, names, files, container, steps[-1])
        tensors, put, nbytes = kept.tensors, kept.put, kept.nbytes
        if put is None or nbytes < _BYTES:
            continue
        before, until = (bisect_right(steps, made_at[tensors[at]]) for at in (0, -1))
        if until - before >= _STEPS - 1:
            yield KeptUnread(files[put.file], put, tensors, nbytes, kept.until_the_end)


class _OfContainer:
    """What a list or dict kept, and nothing else does."""

    def __init__(
        self,
        index: Index,
        names: dict[int, list[tuple[int, int, int]]],
        files: Sequence[int],
        container: Container,
        last_step: int,
    ) -> None:
        self._index, self._names, self._container = index, names, container
        self._puts, self._last_step = [(files[put.file], put) for put in container.puts], last_step
        self._made_at, self._died, self._flags = (
            index.recording.tensors.column(name) for name in ("op", "died", "flags")
        )

    @cached_property
    def tensors(self) -> tuple[int, ...]:
        """All of them; none where any was let go of, is used later, has a graph, or is held elsewhere too."""
        index = self._index
        made = [one for one, op in enumerate(self._made_at) if op < index.op_count and not self._flags[one] & EXTERNAL]
        calls = {self._call(one) for one in made if self._lives(one) and self._is_inside(one)}
        results = [one for one in made if self._call(one) in calls]
        kept = [one for one in results if self._lives(one) and not self._is_elsewhere(one)]
        if len(kept) < AT_LEAST or any(index.node_after(one) >= 0 for one in kept):
            return ()
        places = [at for at, one in enumerate(results) if one >= kept[0] and self._lives(one)]
        ahead = 2 * max(after - before for before, after in pairwise(places)) + 1
        for at, tensor in enumerate(results[:-ahead]):
            later = self._made_at[results[at + ahead]]
            users = index.users.of(tensor)
            is_used = self._lives(tensor) and len(users) > 0 and users[-1] > later
            # One that went, and not at once: it was emptied, or holds the last few.
            if is_used or (not self._lives(tensor) and later < self._died[tensor] <= self._last_step):
                return ()
        return tuple(kept)

    @cached_property
    def put(self) -> PutThere | None:
        """The one place that puts them there: of several, that in whose statement they were made, or whose function."""
        puts = [put for _, put in self._puts]
        if len(puts) > 1 and self.tensors:
            puts = [put for file, put in self._puts if self._is_made_in(self.tensors[0], file, put)]
        return puts[0] if len(puts) == 1 and self.tensors else None

    @cached_property
    def nbytes(self) -> int:
        """Of the memory that is kept; 0 where it is that of few blocks, or of single numbers."""
        on, sizes = self._index.recording.tensors.column("storage"), self._index.recording.storages.column("nbytes")
        blocks = {on[one] for one in self.tensors if on[one] >= 0}
        if sum(sizes[one] >= _BYTES_EACH for one in blocks) < AT_LEAST:
            return 0
        return sum(sizes[one] * (1 + self._index.alike_storages.get(one, 0)) for one in blocks)

    @property
    def until_the_end(self) -> bool:
        """Whether all of them were there at the end of the run."""
        return all(self._died[one] == NONE for one in self.tensors)

    def _lives(self, tensor: int) -> bool:
        """Whether it was there at the end, or outlived the steps that came after it."""
        return self._died[tensor] == NONE or self._made_at[tensor] < self._last_step < self._died[tensor]

    def _call(self, tensor: int) -> tuple[int, int, int]:
        op, ops = self._made_at[tensor], self._index.recording.ops
        return ops.column("span")[op], ops.column("func")[op], self._index.places_in_call[tensor]

    def _is_inside(self, tensor: int) -> bool:
        """Whether a tensor is an item of it, and of nothing else, by what it was called."""
        if self._is_elsewhere(tensor):
            return False
        # (what a function holds is gone when it returns, so that nothing has a name at the end)
        is_gone = self._died[tensor] != NONE and any(self._is_made_in(tensor, *put) for put in self._puts)
        return bool(self._items(tensor)) or is_gone

    def _is_elsewhere(self, tensor: int) -> bool:
        """Whether it is an item of something else, or a name of the module's holds it."""
        text, names = self._index.recording.text, self._names.get(tensor, ())
        is_held = any(span == NONE and "[" not in text(name) for name, _, span in names)
        return is_held or any(item not in self._container.names for item in self._items(tensor))

    def _items(self, tensor: int) -> list[str]:
        """The lists and dicts that it is an item of."""
        text, names = self._index.recording.text, self._names.get(tensor, ())
        return [found[1] for name, _, _ in names if (found := _ITEM.search(text(name))) is not None]

    def _is_made_in(self, tensor: int, file: int, put: PutThere) -> bool:
        """Whether the statement that puts made a tensor, or its function had it by the name of what is put."""
        index = self._index
        there = index.statements[index.op_statement[self._made_at[tensor]]]
        if there.file == file and put.line <= there.line <= put.end_line:
            return True
        is_around = there.file == file and _last(index.recording.text(there.function)) == put.function
        called = {_last(index.recording.text(name)) for name, _, _ in self._names.get(tensor, ())}
        return is_around and not called.isdisjoint(put.values)


def _last(name: str) -> str:
    """``hook`` of ``keep.<locals>.hook``; empty for a module."""
    return name.rpartition(".")[2].replace("<module>", "")
