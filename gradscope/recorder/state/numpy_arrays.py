"""NumPy arrays that ``numpy()`` gave: which memory of torch's they are on, and how long each was held.

An array keeps memory as a tensor does, and no call of torch shows what becomes of it. A weak reference does: an array
that lives is held by the program, be it in a list, by another array that is a view of it, or by a plot.
"""

from __future__ import annotations

import json
from typing import Any
from weakref import ref

from gradscope.recorder.state.moves import Moves
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import NONE

ARRAYS = 256
"""Arrays of one call site that are noted."""
SITES = 256
"""Call sites of which arrays are noted."""

_ARRAYS = int(EventKind.ARRAYS)


class _SeenArray(ref[Any]):
    """A weak reference to an array."""

    __slots__ = ("died", "op", "tensor")

    op: int
    """The call that gave it."""
    tensor: int
    """The row of the tensor whose memory it is on."""
    died: int
    """Ops seen when it was gone, or NONE."""


class NumpyArrays:
    """The arrays of one recording."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape
        self._of_site: dict[int, list[_SeenArray]] = {}

    def note(self, op: int, span: int, tensor: int, result: Any) -> None:
        """Note what a call at a span gave that was asked for a tensor's memory, if it is an array."""
        kind = type(result)
        if kind.__name__ != "ndarray" or kind.__module__ != "numpy" or tensor == NONE:
            return
        seen = self._of_site.get(span)
        if seen is None:
            if len(self._of_site) >= SITES:
                return
            seen = self._of_site[span] = []
        if len(seen) < ARRAYS:
            array = _SeenArray(result, self._gone)
            array.op, array.tensor, array.died = op, tensor, NONE
            seen.append(array)

    def _gone(self, array: _SeenArray) -> None:
        array.died = self._tape.op_count

    def move(self, moves: Moves) -> None:
        """Know calls and tensors by their new rows."""
        for array in (array for seen in self._of_site.values() for array in seen):
            array.op, array.tensor = moves["ops"](array.op), moves["tensors"](array.tensor)
            array.died = moves["ops"](array.died)

    def write(self) -> None:
        """Write how long each was held, when the recording ends; a site that gave only one says nothing."""
        for number, (span, seen) in enumerate(self._of_site.items()):
            if len(seen) > 1:
                detail = {"arrays": [[array.op, array.died] for array in seen]}
                self._tape.add_event(_ARRAYS, span, 0, number, json.dumps(detail), [array.tensor for array in seen])
        self._of_site.clear()
