"""Memory of others that the program puts tensors on anew and writes through them, each time where it wrote before.

``torch.from_numpy(images[i]).sub_(mean)`` in each epoch: every tensor is a new one, on a block of its own, and only
the address and the bytes tell that it is the same array. The first bytes are looked at when a tensor is put on it, and
after each write of torch's. Where a tensor is put on bytes that are as such a write left them, and writes them again,
that becomes an event; what numpy has filled anew in between is another content.
"""

from __future__ import annotations

import json
from ctypes import string_at
from dataclasses import dataclass, field
from typing import Any

from gradscope.recorder.state.moves import Moves
from gradscope.recorder.state.tensors_in import PLAIN
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

BLOCKS = 4096
"""Addresses that are known; of a data set with more items the first."""

LOOKED_AT = 4096
"""Bytes of a block that are looked at."""

WRITES = 8
"""Writes through one tensor that are known."""

EVENTS = 256
"""Writes that become events."""

_WRITTEN_AGAIN = int(EventKind.WRITTEN_AGAIN)


@dataclass(slots=True)
class _WrappedBlock:
    """An address, and what was done through the last tensor on it."""

    nbytes: int
    span: int
    """Where the tensor was put on it, or NONE: by an op."""
    op: int
    found: int
    """What stands for the bytes that it found there."""
    left: int | None = None
    """And for those that the last write left."""
    times: int = 1
    """Tensors one after the other of which each found what the one before had left."""
    writes: list[int] = field(default_factory=list)
    before: list[int] = field(default_factory=list)
    """The writes through the tensor before, whose bytes this one found."""


class WrappedArrays:
    """The blocks of one recording, by address."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._blocks: dict[int, _WrappedBlock] = {}
        self._events = 0

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def wrap(self, tensor: Any, span: int, op: int) -> None:
        """A tensor was put on memory that is not torch's: at a span where no op was recorded, or by an op."""
        address, nbytes = _foreign(tensor)
        if not nbytes:
            return
        last, found = self._blocks.get(address), _looked_at(address, nbytes)
        if last is None and len(self._blocks) >= BLOCKS:
            return
        block = self._blocks[address] = _WrappedBlock(nbytes, span, op, found)
        if last is not None and last.nbytes == nbytes and last.left == found != last.found:
            block.times, block.before = last.times + 1, last.writes

    def written(self, tensor: Any, row: int, op: int, thread: int) -> None:
        """An op has written a tensor (its row)."""
        address, nbytes = _foreign(tensor)
        block = self._blocks.get(address) if nbytes else None
        if block is None or block.nbytes != nbytes:
            return
        block.left = _looked_at(address, nbytes)
        if block.writes[-1:] == [op]:  # (it wrote another tensor on the same memory)
            return
        if len(block.writes) < WRITES:
            block.writes.append(op)
        if block.before and self._events < EVENTS:
            self._events += 1
            detail = {"before": block.before, "op": block.op, "times": block.times}
            self._tape.add_event(_WRITTEN_AGAIN, block.span, thread, op, json.dumps(detail), [row])

    def move(self, moves: Moves) -> None:
        """Know the ops by their new rows."""
        ops = moves["ops"]
        for block in self._blocks.values():
            block.op = ops(block.op)
            block.writes = [ops(op) for op in block.writes]
            block.before = [ops(op) for op in block.before]


def _foreign(tensor: Any) -> tuple[int, int]:
    """Address and size of a tensor's block, where it is on the CPU and not torch's own; else 0 and 0."""
    if type(tensor) not in PLAIN or not tensor.is_cpu:
        return 0, 0
    try:
        storage = tensor.untyped_storage()
        return (0, 0) if storage.resizable() else (storage.data_ptr(), storage.nbytes())
    except (RuntimeError, NotImplementedError):  # no storage of its own
        return 0, 0


def _looked_at(address: int, nbytes: int) -> int:
    return hash(string_at(address, min(nbytes, LOOKED_AT)))
