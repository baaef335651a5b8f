"""Snapshots that were taken without a copy: the memory was written while they were held, and they were read afterwards.

That something shares memory is no mistake: views are there to be written through, and to be read again and again. What
is taken for a snapshot here shows by its use that its values were meant to be those of the time when it was taken:

- it, or a part of it, is compared with, subtracted from, copied onto or put back as the very memory on which it lies
  itself;
- several of one statement, taken at different times from the same elements, are kept in one list or dict;
- it is kept in a list or dict, or under a name that says so (``best``, ``before``), and is read after the write, once.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from gradscope.analysis.facts.memory_writes.later_reads import LaterReads
from gradscope.analysis.facts.memory_writes.parts_put_back import PartsPutBack
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.facts.tracking.values_taken import ValuesTaken
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import NOWHERE, Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

_TAKES = re.compile(r"Tensor\.(detach|data\.__get__)|.*\.state_dict")
"""Calls that give the values of a tensor, on its own memory, without its graph."""
_ARRAYS = frozenset(("Tensor.numpy", "Tensor.__array__", "Tensor.__dlpack__"))
"""Calls that give an array, or hand it to what makes one, on the same memory."""
BESIDE = re.compile(
    r"(Tensor|torch)\.(sub|subtract|rsub|__rsub__|equal|allclose|isclose|eq|ne|dist|__eq__|__ne__|copy_|set_)"
    r"|Tensor\.data\.__set__|torch\._foreach_(sub|copy_)"
    r"|F\.(mse_loss|l1_loss|smooth_l1_loss|cosine_similarity)|torch\.(cosine_similarity|testing.*)|.*\.load_state_dict"
)
"""Calls whose result is known beforehand where both tensors are the same elements."""
PAST = re.compile(
    r"(?:^|[._])(best|before|prev|previous|old|last|start|init|initial|snap|snapshot|saved|backup|orig|original|anchor"
    r"|copy|kept|earlier|first|checkpoint|ckpt)(?:$|[._\[\d])",
    re.IGNORECASE,
)
"""In a name: that it is for values of an earlier time."""


@dataclass(frozen=True)
class StaleSnapshot:
    """One tensor that was taken without a copy."""

    tensor: int
    source: int
    """The tensor from which it was taken."""
    written: int
    """The op that changed it."""
    read: int
    """The op that read it afterwards; NONE where only the text of the program shows that it is read, or where several
    are kept."""


class StaleSnapshots:
    """Finds the snapshots of one recording.

    Args:
        index: The recording.
        names: Names of tensors.
        sharing: Which tensors share memory.
    """

    def __init__(self, index: Index, names: BestNames, sharing: StorageGroups) -> None:
        self._index = index
        self._names = names
        self._sharing = sharing
        self._values = ValuesTaken(index)
        self._parts = PartsPutBack(index, self._is_same, BESIDE.fullmatch)
        self._later_reads: dict[int, LaterReads] = {}

    def by_statement(self) -> dict[int, list[StaleSnapshot]]:
        """What each statement took, in the order of the run."""
        found: dict[int, list[StaleSnapshot]] = {}
        for tensor in self._taken:
            written = self._changed_at(tensor)
            if written < 0:
                continue
            read = self._read_back(tensor, written)
            if read is not None:
                snapshot = StaleSnapshot(tensor, self._sharing.base_of(tensor), written, read)
                found.setdefault(self._statement(tensor), []).append(snapshot)
        return found

    @cached_property
    def _taken(self) -> list[int]:
        """Tensors that a call of the user's took from another one, on whose memory they are."""
        index, tensors = self._index, self._index.recording.tensors
        made_at, flags = tensors.column("op"), tensors.column("flags")
        return [
            tensor
            for tensor in sorted(self._sharing.alias_row)
            if made_at[tensor] < index.op_count
            and not flags[tensor] & EXTERNAL
            and index.op_statement[made_at[tensor]] != NOWHERE
            and _TAKES.fullmatch(index.method(made_at[tensor]))
            and not any(written == tensor for written, _ in self._own_writes.get(tensor, ()))
        ]

    @cached_property
    def _all_names(self) -> dict[int, tuple[str, ...]]:
        return self._names.all_of(self._taken)

    @cached_property
    def _by_storage(self) -> dict[int, list[tuple[int, int]]]:
        """For each memory block with several tensors: the writes to it (op and tensor)."""
        found: dict[int, list[tuple[int, int]]] = {}
        kinds = self._index.recording.ops.column("kind")
        made_at, flags = (self._index.recording.tensors.column(name) for name in ("op", "flags"))
        for op, tensor, _, _ in all_writes(self._index):
            if op >= self._index.op_count or kinds[op] in (OpKind.BACKWARD, OpKind.GRAD):
                continue
            if op == made_at[tensor] and not flags[tensor] & EXTERNAL:
                continue
            storage = self._index.storage_at(tensor, op)
            if storage in self._sharing.tensors_on:
                found.setdefault(storage, []).append((op, tensor))
        return found

    @cached_property
    def _own_writes(self) -> dict[int, list[tuple[int, int]]]:
        """For each tensor, and all that it was made from on its memory: writes that went through it."""
        found: dict[int, list[tuple[int, int]]] = {}
        for writes in self._by_storage.values():
            by_op: dict[int, list[int]] = {}
            for op, tensor in writes:
                by_op.setdefault(op, []).append(tensor)
            for op, several in by_op.items():
                taken = self._index.uses.of(op)
                # A call counts up the version of all that share the counter: it wrote through its first argument.
                through = several if len(several) == 1 else [one for one in several if taken and one == taken[0]]
                for tensor in through:
                    seen = set[int]()
                    while tensor >= 0 and tensor not in seen:
                        seen.add(tensor)
                        found.setdefault(tensor, []).append((tensor, op))
                        if not _TAKES.fullmatch(self._index.method(self._index.recording.tensors.column("op")[tensor])):
                            tensor = self._sharing.base_of(tensor)
                            continue
                        break
        return found

    def _statement(self, tensor: int) -> int:
        return self._index.op_statement[self._index.recording.tensors.column("op")[tensor]]

    def _changed_at(self, tensor: int) -> int:
        """The first op that wrote a snapshot's bytes while it was held, through another tensor; NONE for none."""
        index = self._index
        made_at, died, storage = (index.recording.tensors.column(name)[tensor] for name in ("op", "died", "storage"))
        if tensor in index.moves:
            return NONE
        if died != NONE and self._gives_array(tensor):
            died = NONE
        own = self._sharing.range_of(tensor)
        writes = self._by_storage.get(storage, [])
        for op, through in writes[bisect_right(writes, (made_at, len(index.recording.tensors))) :]:
            if 0 <= died <= op + 1:
                return NONE
            is_other = through != tensor and tensor not in index.uses.of(op)
            # What was put there later: no copy that is taken here would keep its writes off.
            if (
                is_other
                and not any(made_at < moved <= op for moved, _ in index.moves.get(through, ()))
                and overlap(own, self._sharing.range_of(through))
            ):
                return op
        return NONE

    def _read_back(self, tensor: int, written: int) -> int | None:
        """The op that read it as what it was before the write, NONE where no op shows it; None where nothing does."""
        index = self._index
        later = [op for op in index.users.of(tensor) if op > written and tensor in self._values.of(op)]
        for op in later:
            if BESIDE.fullmatch(index.func(op)) and any(self._is_same(tensor, other) for other in index.uses.of(op)):
                return op
            met = self._parts.met_at(tensor, op)
            if met >= 0:
                return met
        names = self._all_names[tensor]
        is_in_container = any("[" in name for name in names)
        if is_in_container and self._is_one_of_several(tensor, written):
            return NONE
        is_for_the_past = any(map(PAST.search, names))
        if not is_in_container and not is_for_the_past:
            return NONE if self._gives_array(tensor) and self._is_named_later(tensor, written) else None
        if not is_for_the_past and self._is_taken_anew(tensor):
            return None
        if later and not self._is_read_again_and_again(tensor):
            return later[0]
        is_held = index.recording.tensors.column("died")[tensor] == NONE
        return NONE if not later and is_held and self._is_named_later(tensor, written) else None

    def _is_same(self, tensor: int, other: int) -> bool:
        """Whether another tensor is the same elements."""
        tensors = self._index.recording.tensors
        on, layout = tensors.column("storage"), tensors.column("layout")
        return (
            other != tensor
            and on[other] == on[tensor]
            and other not in self._index.moves
            and self._sharing.range_of(other) == self._sharing.range_of(tensor)
            and self._shape(layout[other]) == self._shape(layout[tensor])
        )

    def _shape(self, layout: int) -> tuple[int, int]:
        row = self._index.recording.layouts[layout]
        return row.shape, row.stride

    def _is_one_of_several(self, tensor: int, written: int) -> bool:
        """Whether the same statement took the same elements again after the write, while this one was held."""
        tensors = self._index.recording.tensors
        made_at, died = tensors.column("op"), tensors.column("died")
        for other in self._sharing.tensors_on[tensors.column("storage")[tensor]]:
            is_later = written < made_at[other] < self._index.op_count and self._is_same(tensor, other)
            if is_later and self._statement(other) == self._statement(tensor):
                # The one that was there before goes when the next takes its name; two are held for longer.
                users = [op for op in self._index.users.of(other) if op > made_at[other]]
                if died[tensor] == NONE or any(op < died[tensor] for op in users):
                    return self._name(other) != self._name(tensor)
        return False

    def _name(self, tensor: int) -> int:
        return self._names.best[tensor]

    def _is_read_again_and_again(self, tensor: int) -> bool:
        """Whether one statement read it before a write and after: what is wanted then are the values of the moment."""
        index = self._index
        writes = [op for op, _ in self._by_storage[index.recording.tensors.column("storage")[tensor]]]
        seen: dict[int, int] = {}
        for op in index.users.of(tensor):
            epoch, statement = bisect_right(writes, op), index.op_statement[op]
            if seen.setdefault(statement, epoch) != epoch:
                return True
        return False

    def _gives_array(self, tensor: int) -> bool:
        """Whether its statement keeps a NumPy array of it, which is on the same memory."""
        index = self._index
        statement = index.statements[self._statement(tensor)]
        is_read = any(index.func(op) in _ARRAYS for op in index.users.of(tensor))
        return is_read and self._text_of(statement.file).is_array(statement.line)

    def _is_named_later(self, tensor: int, written: int) -> bool:
        """Whether the text shows that what the statement stored last is read when the write is over."""
        index = self._index
        taken, other = (index.statements[at] for at in (self._statement(tensor), index.op_statement[written]))
        if self._is_replaced(tensor) or taken.file != other.file:
            return False
        return self._text_of(taken.file).is_read_after(taken.line, other.line)

    def _text_of(self, file: int) -> LaterReads:
        if file not in self._later_reads:
            self._later_reads[file] = LaterReads(self._index.recording.files[file].text)
        return self._later_reads[file]

    def _is_taken_anew(self, tensor: int) -> bool:
        """Whether its statement took the same elements before, under the same name: values of the moment."""
        on_block = self._sharing.tensors_on[self._index.recording.tensors.column("storage")[tensor]]
        names = set(self._all_names[tensor])
        return any(
            other < tensor
            and other in self._all_names
            and self._statement(other) == self._statement(tensor)
            and not names.isdisjoint(self._all_names[other])
            for other in on_block
        )

    def _is_replaced(self, tensor: int) -> bool:
        """Whether its statement took the same elements once more."""
        on_block = self._sharing.tensors_on[self._index.recording.tensors.column("storage")[tensor]]
        made_at, count = self._index.recording.tensors.column("op"), self._index.op_count
        later: Iterator[int] = (other for other in on_block if other > tensor and made_at[other] < count)
        return any(self._statement(other) == self._statement(tensor) for other in later)
