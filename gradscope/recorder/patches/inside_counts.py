"""Which calls ran inside backward passes, and how often: counted by place, and noted when a recording ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind

_RECOMPUTED = int(EventKind.RECOMPUTED)

_of_tape: WeakKeyDictionary[Tape, Counter[tuple[int, str, str, bool]]] = WeakKeyDictionary()
"""For each recording the calls, by span, name of the function, what called it, and whether it drew."""
_DROPOUTS = frozenset(
    ("F.dropout", "F.dropout1d", "F.dropout2d", "F.dropout3d", "F.alpha_dropout", "F.feature_alpha_dropout")
)
_DRAWS = frozenset(("torch.rand", "torch.randn", "torch.rand_like", "torch.randn_like", "torch.bernoulli"))


def count_call(tape: Tape, span: int, function: str, within: str, drew: bool = False) -> None:
    """Count one call of a function; ``within`` is empty for a checkpointed function."""
    _of_tape.setdefault(tape, Counter())[span, function, within, drew] += 1


def draws(function: str, given: Mapping[str, Any]) -> bool:
    """Whether a call draws random numbers of torch's own generator, by the keywords that it is given."""
    if function in _DROPOUTS:
        return bool(given.get("training", False)) and given.get("p", 0.0) > 0
    return function in _DRAWS and given.get("generator") is None


def write_counts(tape: Tape) -> None:
    """Note what was counted, when a recording ends."""
    for (span, function, within, drew), times in _of_tape.pop(tape, Counter()).items():
        detail = {"function": function, **({"within": within} if within else {}), **({"draws": True} if drew else {})}
        tape.add_event(_RECOMPUTED, span, 0, times, json.dumps(detail), [])
