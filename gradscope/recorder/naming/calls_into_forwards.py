"""Where the program applied its custom Functions: seen from what runs inside their ``forward``.

The function mode does not see ``Function.apply``. What it gave is often met in a caller only, by a name that the caller
gave it (``return Spike.apply(v)``); the frames above a ``forward`` tell the call itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import unwrap
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

import torch

from gradscope.recorder.places.call_sites import Site
from gradscope.recorder.state.tensors_in import PLAIN

_FORWARD = "forward"
_LATEST = 256
"""Applications of one function that are remembered each by itself."""
_sequence_number = torch._C._autograd._get_sequence_nr


class AppliedFunctions:
    """The calls that led into a ``forward``, by its code."""

    def __init__(self) -> None:
        self._by_number: dict[CodeType, dict[tuple[int, int], int]] = {}
        """Spans of the calls, by thread and the number of the node that the call made."""
        self._spans: dict[CodeType, set[int]] = {}

    def note(self, callers: Sequence[tuple[FrameType, Site]], thread: int) -> None:
        """Keep which call led to a ``forward`` among the user's frames above an op that ran without grad mode.

        A Function's node is numbered right before its forward runs, which makes no other without grad mode.
        """
        for (frame, _), (_, site) in pairwise(callers):
            if frame.f_code.co_name == _FORWARD:
                self._spans.setdefault(frame.f_code, set()).add(site.span)
                latest = self._by_number.setdefault(frame.f_code, {})
                latest[thread, _sequence_number() - 1] = site.span
                if len(latest) > _LATEST:
                    del latest[next(iter(latest))]

    def call_behind(self, tensor: Any, thread: int, named: tuple[str, int] | None) -> tuple[str, int] | None:
        """The call that applied the Function whose node a tensor has: what is written there, and its span.

        Args:
            tensor: Any one.
            thread: Number of the thread that met it.
            named: The call that its name was assigned from, which is it where no other is known.
        """
        if not self._spans or type(tensor) not in PLAIN or not tensor.requires_grad:
            return named
        node = tensor.grad_fn
        function = getattr(node, "_forward_cls", None)
        code = None if function is None else getattr(unwrap(function.forward), "__code__", None)
        spans = self._spans.get(code) if code is not None else None
        if code is None or not spans:
            return named
        span = self._by_number[code].get((thread, node._sequence_nr()))
        if span is None and (named is None or named[1] not in spans) and len(spans) == 1:
            (span,) = spans
        return named if span is None else ("", span)
