"""Which calls ran inside backward passes, and how often: counted by place, and noted when a recording ends."""

from __future__ import annotations

import json
from collections import Counter
from weakref import WeakKeyDictionary

from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

_RECOMPUTED = int(EventKind.RECOMPUTED)

_of_tape: WeakKeyDictionary[Tape, Counter[tuple[int, str, str]]] = WeakKeyDictionary()
"""For each recording the calls, by span, name of the function, and what called it."""


def count_call(tape: Tape, span: int, function: str, within: str) -> None:
    """Count one call of a function; ``within`` is empty for a checkpointed function."""
    _of_tape.setdefault(tape, Counter())[span, function, within] += 1


def write_counts(tape: Tape) -> None:
    """Note what was counted, when a recording ends."""
    for (span, function, within), times in _of_tape.pop(tape, Counter()).items():
        detail = {"function": function, **({"within": within} if within else {})}
        tape.add_event(_RECOMPUTED, span, 0, times, json.dumps(detail), [])
