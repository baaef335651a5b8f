"""Memory that others than torch can write: it is numpy's as well, or came from there.

No function mode and no version counter shows what numpy writes. So the bytes of small blocks are kept, and looked at
again where it matters: when a node saves the memory, and when a backward pass begins. What a look finds changed becomes
an event, with the look before it; whether a call that was seen wrote it in between is for the analysis to say.
"""

from __future__ import annotations

import json
from ctypes import string_at
from typing import Any, NamedTuple

from gradscope.recorder.state.identity import Identity, SeenStorage
from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import NONE

BLOCK_LIMIT = 16_384
"""Bytes of a block that is looked at; a larger one is not."""

TOTAL_LIMIT = 262_144
"""Bytes looked at in all (about 0.1 ms a backward pass); the block that was looked at first is dropped then."""

BLOCKS = 256
"""Blocks looked at in all."""

STRETCHES = 64
"""Stretches of changed bytes that an event names."""

_CHANGED = int(EventKind.MEMORY_CHANGED)


class _Look(NamedTuple):
    """What was in a block when it was looked at."""

    op: int
    """Ops seen before."""
    during: int
    """The op that was under way, or is about to be called."""
    content: bytes


class ForeignMemory:
    """The blocks that are looked at, by the row of the storage."""

    def __init__(self, tape: Tape, identity: Identity) -> None:
        self._tape = tape
        self._identity = identity
        self._looks: dict[int, tuple[SeenStorage, _Look]] = {}
        self._at: dict[int, int] = {}
        """By address the last block: another one there is another tensor on the same array, or what came after it."""
        self._total = 0

    def __bool__(self) -> bool:
        return bool(self._looks)

    def watch(self, tensor: Any, thread: int, *, is_given_away: bool) -> None:
        """Look at a tensor's memory from now on.

        Args:
            tensor: One that is known.
            thread: Number of the thread.
            is_given_away: Others are given the memory; else it is looked at only if torch does not own it.
        """
        if type(tensor) not in PLAIN:  # to ask it may run the program's code
            return
        try:
            storage = tensor.untyped_storage()
            if storage.device.type != "cpu" or not (is_given_away or not storage.resizable()):
                return
        except (RuntimeError, NotImplementedError):  # no storage of its own
            return
        known = self._identity.storages.get(id(storage))
        if known is None or not 0 < known.nbytes <= BLOCK_LIMIT:
            return
        during = self._tape.op_count - (not is_given_away)
        if known.row in self._looks:
            self.look(known.row, thread, during)
            return
        same = self._at.get(storage.data_ptr(), NONE)
        if same != NONE:
            self.look(same, thread, during)
        self._at[storage.data_ptr()] = known.row
        self._total += known.nbytes
        while self._looks and (self._total > TOTAL_LIMIT or len(self._looks) >= BLOCKS):
            self._forget(next(iter(self._looks)))
        self._looks[known.row] = (known, _Look(self._tape.op_count, during, _content(storage)))

    def look(self, row: int, thread: int, during: int) -> None:
        """Look at a block, if it is one of those that are looked at, during an op or before it."""
        if row not in self._looks:
            return
        known, before = self._looks[row]
        storage = known()
        if storage is None or storage.nbytes() != known.nbytes or known.row != row:
            self._forget(row)
            return
        content = _content(storage)
        if content != before.content:
            self._note(row, known, before, content, thread)
        self._looks[row] = (known, _Look(self._tape.op_count, during, content))

    def look_at_all(self, thread: int) -> None:
        """Look at every block before the op that comes now."""
        for row in list(self._looks):
            self.look(row, thread, self._tape.op_count)

    def move(self, moves: Moves) -> None:
        """Know blocks, and when they were looked at, by new rows."""
        storages, ops = moves["storages"], moves["ops"]
        self._looks = {
            storages(row): (known, _Look(ops(look.op), ops(look.during), look.content))
            for row, (known, look) in self._looks.items()
        }
        self._total = sum(known.nbytes for known, _ in self._looks.values())
        self._at = {address: storages(row) for address, row in self._at.items()}

    def _note(self, row: int, known: SeenStorage, before: _Look, content: bytes, thread: int) -> None:
        detail = {"since": before.op, "after": before.during, "bytes": _differing(before.content, content)}
        tensor = self._identity.tensor_on(known())
        tensors = [] if tensor is None else [self._identity.row_of(tensor)]
        self._tape.add_event(_CHANGED, NONE, thread, row, json.dumps(detail, sort_keys=True), tensors)

    def _forget(self, row: int) -> None:
        known, _ = self._looks.pop(row)
        self._total -= known.nbytes
        self._at = {address: at for address, at in self._at.items() if at != row}


def _differing(before: bytes, now: bytes) -> list[list[int]]:
    """Where two contents of a block differ: first byte, and the byte after the last, of the first such stretches."""
    stretches: list[list[int]] = []
    for at, pair in enumerate(zip(before, now, strict=True)):
        if pair[0] == pair[1]:
            continue
        if stretches and stretches[-1][1] == at:
            stretches[-1][1] = at + 1
        elif len(stretches) < STRETCHES:
            stretches.append([at, at + 1])
        else:
            break
    return stretches


def _content(storage: Any) -> bytes:
    return string_at(storage.data_ptr(), storage.nbytes())
