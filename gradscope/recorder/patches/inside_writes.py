"""What calls inside backward passes did to tensors that were seen: noted once for each place, when a recording ends.

Their ops have no rows: a pass has one, which is written when it is over, and what comes before it reads as what leads
to it. So each place says what it wrote in the passes of which line.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from gradscope.recorder.state.moves import Moves
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

_INSIDE_PASS = int(EventKind.INSIDE_PASS)


class PlaceEffect(NamedTuple):
    """What calls at one place do to tensors."""

    span: int
    begun_at: int
    """The span of the call that began the pass."""
    function: str
    did: str
    """``wrote``, or what happened to their gradient: ``cleared``, ``set``, ``asked`` (for it, by another pass)."""


_of_tape: WeakKeyDictionary[Tape, dict[PlaceEffect, dict[int, int]]] = WeakKeyDictionary()
"""For each recording the tensors, by their rows, with how often it was done to each."""


def note_effect(tape: Tape, effect: PlaceEffect, tensors: Iterable[int]) -> None:
    """Note what one call did to tensors (their rows)."""
    counts = _of_tape.setdefault(tape, {}).setdefault(effect, {})
    for row in tensors:
        counts[row] = counts.get(row, 0) + 1


def move(tape: Tape, moves: Moves) -> None:
    """Know the tensors by their new rows."""
    for effect, counts in _of_tape.get(tape, {}).items():
        moved = dict[int, int]()
        for row, times in counts.items():
            now = moves["tensors"](row)
            moved[now] = moved.get(now, 0) + times
        _of_tape[tape][effect] = moved


def write_effects(tape: Tape) -> None:
    """Note all of it, when a recording ends."""
    for effect, counts in _of_tape.pop(tape, {}).items():
        detail = {"function": effect.function, "did": effect.did, "times": list(counts.values())}
        tape.add_event(_INSIDE_PASS, effect.span, 0, effect.begun_at, json.dumps(detail), list(counts))
