"""A run in the order of its calls: what each call was, which statement it ran for, and the memory in use after it.

A recording has no times: one step of the timeline is one call, of whatever thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from gradscope.analysis.facts.memory_use import MemoryUse
from gradscope.analysis.facts.names.best_names import BestNames
from gradscope.analysis.index import NOWHERE, Index
from gradscope.analysis.report_model import Place
from gradscope.recording import Recording
from gradscope.recording.rows import OpFlag, OpKind


class TimedCall(NamedTuple):
    """One call."""

    op: int
    name: str
    kind: str
    """Name of its :class:`OpKind`, in lower case."""
    place: Place
    thread: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    allocated_bytes: int
    live_bytes: int
    """In use once it was called."""
    raised: bool


class TimedStatement(NamedTuple):
    """Calls of one statement, one after the other in their thread: a run of it, or several with nothing between."""

    place: Place
    thread: int
    first_op: int
    last_op: int


class OpTimeline:
    """The calls of a recording, in order.

    Args:
        recording: What was observed of a run.
    """

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._index = Index(recording)
        self._use = MemoryUse(self._index)
        self._places: dict[int, Place] = {}

    @cached_property
    def _names(self) -> BestNames:
        return BestNames(self._index)

    @property
    def threads(self) -> tuple[str, ...]:
        """Names of the threads, in the order in which they appeared."""
        return tuple(self._recording.threads)

    def calls(self) -> Iterator[TimedCall]:
        """Every call that was kept."""
        index, ops, names = self._index, self._recording.ops, self._names
        columns = (ops.column(name) for name in ("kind", "thread", "flags"))
        for op, (kind, thread, flags) in enumerate(zip(*columns, strict=True)):
            yield TimedCall(
                op=op,
                name=index.func(op),
                kind=OpKind(kind).name.lower(),
                place=self._place(index.op_statement[op]),
                thread=thread,
                inputs=tuple(names.at(tensor, op) for tensor in index.uses.of(op)),
                outputs=tuple(names.at(tensor, op) for tensor in index.tensors_made(op)),
                allocated_bytes=self._use.allocated[op],
                live_bytes=self._use.live[op],
                raised=bool(flags & OpFlag.RAISED),
            )

    def statements(self) -> Iterator[TimedStatement]:
        """Every stretch of calls that a thread made for one statement of the user's code."""
        threads = self._recording.ops.column("thread")
        open_ones: dict[int, tuple[int, int, int]] = {}
        for op, (statement, thread) in enumerate(zip(self._index.op_statement, threads, strict=True)):
            last = open_ones.get(thread)
            if last is not None and last[0] == statement:
                open_ones[thread] = (statement, last[1], op)
                continue
            if last is not None and last[0] != NOWHERE:
                yield TimedStatement(self._place(last[0]), thread, last[1], last[2])
            open_ones[thread] = (statement, op, op)
        for thread, (statement, first, last_op) in open_ones.items():
            if statement != NOWHERE:
                yield TimedStatement(self._place(statement), thread, first, last_op)

    def _place(self, statement: int) -> Place:
        if statement not in self._places:
            self._places[statement] = self._index.place(statement)
        return self._places[statement]
