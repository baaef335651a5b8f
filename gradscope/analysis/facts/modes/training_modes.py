"""In which mode a module was, as far as calls of ``train()`` and ``eval()`` were seen."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.events import Events, Happened
from gradscope.recording.rows import EventKind


class ModeCall(NamedTuple):
    """A call of ``train()`` or ``eval()``."""

    event: Happened
    op: int
    """The number of ops before it."""
    training: bool
    module: int
    name: str
    """The module's class."""
    dropouts: int
    norms: int
    """How many dropouts and batch norms are in it."""
    parameters: frozenset[int]
    """Those of the module."""
    by_library: bool = False
    """A library called it, which may put the mode back by setting ``training``: that is no call."""
    through: tuple[int, ...] = ()
    """The spans at which the user's functions were around it, the innermost first."""

    def covers(self, parameters: frozenset[int]) -> bool:
        """Whether it set the mode of what has some parameters as well."""
        return parameters <= self.parameters


class TrainingModes:
    """The calls of one recording."""

    def __init__(self, events: Events) -> None:
        self._events = events

    @cached_property
    def calls(self) -> list[ModeCall]:
        """Every call, in the order of the run."""
        parameters: dict[int, frozenset[int]] = {}
        found, spans = [], self._events.spans
        for event in self._events.of(EventKind.TRAINING_MODE):
            known = parameters.setdefault(event.subject, frozenset(event.tensors))
            dropouts, norms = (int(event.detail.get(name) or 0) for name in ("dropouts", "norms"))
            name, training = str(event.detail.get("module", "")), event.detail.get("training") is True
            by_library = event.detail.get("by_library") is True
            around = _spans(event.detail.get("through"), spans) or tuple(one for one in (event.span,) if one >= 0)
            found.append(
                ModeCall(event, event.op, training, event.subject, name, dropouts, norms, known, by_library, around)
            )
        return found

    def in_force(self, op: int) -> ModeCall | None:
        """The last call before an op, of whatever module; None where none was made."""
        position = bisect_right(self._ops, op)
        return self.calls[position - 1] if position else None

    @cached_property
    def _ops(self) -> list[int]:
        return [call.op for call in self.calls]

    def last_before(self, op: int, parameters: frozenset[int]) -> ModeCall | None:
        """The last call before an op that set the mode of all that has some parameters; None where none did."""
        return next((call for call in reversed(self.calls) if call.op <= op and call.covers(parameters)), None)


def _spans(way: object, count: int) -> tuple[int, ...]:
    """The spans of a detail; none where a file that was changed by hand holds something else."""
    is_way = isinstance(way, list) and all(isinstance(one, int) and 0 <= one < count for one in way)
    return tuple(way) if isinstance(way, list) and is_way else ()
