"""What ``raised(…)`` is answered from: errors that torch functions raised, and ``except`` blocks that were entered.

The first are in the recording; the second are noted by a probe at the head of each ``except`` block of the program, so
that errors of the program's own are known as well. Only types are kept: an exception would keep frames alive.
"""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradscope.hosting.probes import Probe
from gradscope.targets.program import Program

if TYPE_CHECKING:
    from gradscope.hosting.program_run import ProgramRun

Moment = tuple[int, int]
"""How many errors were caught, and how many were raised by torch functions, up to some moment."""

START: Moment = (0, 0)


class RaisedErrors:
    """The errors of one run so far."""

    def __init__(self) -> None:
        self.run: ProgramRun | None = None
        """Set once it exists."""
        self.since = START
        """From when on errors count for the expectation that is being evaluated."""
        self._caught: list[type[BaseException]] = []

    def probes(self, program: Program) -> list[Probe]:
        """One at the head of each ``except`` block."""
        with suppress(SyntaxError):  # a transcript may hold a statement that is no Python
            return [
                Probe(node.body[0].lineno, node.body[0].col_offset, True, self._note)
                for node in ast.walk(ast.parse(program.source))
                if isinstance(node, ast.ExceptHandler)
            ]
        return []

    def now(self) -> Moment:
        """This moment."""
        return len(self._caught), len(self._raised_by_torch())

    def raised(self, error: Any) -> bool:
        """Whether an error of this type (or one of these types) was raised since the moment that counts."""
        kinds = error if isinstance(error, tuple) else (error,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError(f"raised() wants a type of error, not {error!r}")
        caught, by_torch = self.since
        if any(issubclass(kind, kinds) for kind in self._caught[caught:]):
            return True
        names = {name for kind in kinds for name in _names(kind)}
        return not names.isdisjoint(self._raised_by_torch()[by_torch:] + self._uncaught())

    def _note(self, _: FrameType) -> None:
        kind = sys.exc_info()[0]
        if kind is not None:
            self._caught.append(kind)

    def _raised_by_torch(self) -> list[str]:
        recorder = self.run.recorder if self.run is not None else None
        if recorder is None:
            return []
        recorder.flush()
        recording = recorder.recording
        return [recording.text(name) for name in recording.errors.column("type_name")]

    def _uncaught(self) -> list[str]:
        """The error that ended the program, once it has."""
        return [self.run.recording.info.outcome.error_type] if self.run is not None else []


def _names(kind: type[BaseException]) -> set[str]:
    """The names of a type of error and of all that derive from it: of what torch raised only the name is recorded."""
    return {kind.__qualname__}.union(*(_names(derived) for derived in kind.__subclasses__()))
