"""Where the backward of a custom ``autograd.Function`` is defined: seen with its first node."""

from __future__ import annotations

import inspect
import json
from types import CodeType
from typing import Any
from weakref import WeakSet

from torch.autograd import Function

from gradscope.recorder.places.call_sites import SpanTable
from gradscope.recorder.places.code_owners import CodeOwners, Owner
from gradscope.recorder.tape import Tape
from gradscope.recording.rows import EventKind, Span
from gradscope.recording.tables import NONE


class FunctionPlaces:
    """The Functions seen so far. A class that a program makes anew each time is not kept alive."""

    def __init__(self, tape: Tape, spans: SpanTable, owners: CodeOwners) -> None:
        self._tape = tape
        self._spans = spans
        self._owners = owners
        self._seen: WeakSet[type] = WeakSet()
        self._codes: set[tuple[str, CodeType]] = set()

    def see(self, kind: type, name: str, thread: int) -> None:
        """Record where the backward of a node's Function is, where that is the user's code and was not seen before."""
        if kind in self._seen:
            return
        self._seen.add(kind)
        code = _backward_code(getattr(kind, "_forward_cls", None))
        if code is None or (name, code) in self._codes or self._owners.of(code) is not Owner.USER:
            return
        self._codes.add((name, code))
        line, function = code.co_firstlineno, self._tape.text(f"{name.removesuffix('Backward')}.{code.co_name}")
        file = self._spans.sources.file(code.co_filename, True)
        span = self._spans.shared(Span(file, line, line, NONE, NONE, line, line, function))
        detail = json.dumps({"node": name})
        self._tape.add_event(int(EventKind.FUNCTION), span, thread, len(self._codes) - 1, detail, [])


def _backward_code(function: Any) -> CodeType | None:
    """The code of a Function's backward as it is written (``once_differentiable`` and the like wrap it), or None."""
    vjp, backward = getattr(function, "vjp", None), getattr(function, "backward", None)
    written = backward if vjp is Function.vjp else vjp
    while inspect.isfunction(inner := getattr(written, "__wrapped__", None)):
        written = inner
    return written.__code__ if inspect.isfunction(written) else None
