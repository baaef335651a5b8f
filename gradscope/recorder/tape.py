"""Where observations go: pending values in plain lists, moved to the recording's columns in batches.

A pending list is flat: one row's values after the other's. Extending it by one tuple costs a fraction of appending to
each column, and leaves no object behind for the garbage collector to visit.

A signal handler may raise between any two calls. Where an id is counted and its row appended no call stands between the
two, here and wherever rows are appended; so ids stay the positions of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence
from time import perf_counter
from typing import Any

from gradscope.recorder.uninterrupted import uninterrupted
from gradscope.recording import Fault, Recording
from gradscope.recording.tables import Packing, Table

FLUSH_OPS = 4096
"""Pending ops at which a batch is moved: small enough to bound memory, large enough to be cheap a row."""

FIRST_OPS = 64
"""Pending ops at which a batch is written to a file while ops are slow: what a killed program may lose."""

INTERVAL = 0.5
"""Seconds between two batches that go to a file: where they come quicker, the next one is larger."""

_SHARE, _AT_ONCE = 50, 16
"""Times what writing took last that must go by before more is written than need be, but for so many times."""
AGE = 1.0
"""Seconds after which what is pending is written to a file with the next op: ops may be slow, and a process killed."""

_OP_WIDTH = 7


class Tape:
    """Pending rows of every table that grows while the program runs, and the ids of the next rows.

    Args:
        recording: Where batches go.
        on_flush: Called after each batch, to write it to a file while the program still runs.
    """

    # (slots are where the native core finds what every call counts: see native/core.h)
    __slots__ = (
        "__dict__",
        "__weakref__",
        "flush_at",
        "node_count",
        "on_flush",
        "op_count",
        "storage_count",
        "tensor_count",
    )

    def __init__(self, recording: Recording, on_flush: Callable[[Recording], None] | None = None) -> None:
        self.recording = recording
        self.on_flush = on_flush
        self._tables = recording.tables
        self._begun: tuple[Table[Any], int, list[int]] | None = None
        """A table that rows are being added to, how many it had, and the rows, which are pending no more."""
        self.pending: dict[str, list[int]] = {name: [] for name in recording.tables}
        self.ops = self.pending["ops"]
        self.op_count = 0
        self.tensor_count = 0
        self.storage_count = 0
        self.node_count = 0
        self.event_count = 0
        self.tensor_deaths: list[int] = []
        self.storage_deaths: list[int] = []
        self.flush_at = (FLUSH_OPS if on_flush is None else FIRST_OPS) * _OP_WIDTH
        """Length of the pending ops at which :meth:`flush` is due."""
        self._flushed_at = 0.0
        self._flush_took = 0.0
        self._asked = 0
        self._is_flushing = False
        self._op_updates: dict[int, dict[str, int]] = {}
        self._updates: list[tuple[str, int, str, int]] = []
        self._texts: dict[str, int] = {"": 0}
        self.packed: Packing | None = None
        """What makes columns of pending rows, where the native core does."""
        self.set_pairs: Callable[[MutableSequence[int], list[int], int], None] = _set_pairs
        """Sets ``column[row] = value`` for so many rows and values that alternate in a list."""

    def text(self, text: str) -> int:
        """Intern a text and return its id."""
        known = self._texts.get(text)
        if known is None:
            known = self._texts[text] = len(self.recording.strings)
            self.recording.strings.append(text)
        return known

    def known_text(self, text: str) -> int | None:
        """The id of a text, if it has one."""
        return self._texts.get(text)

    def add_op(self, func: int, kind: int, span: int, inner: int, thread: int, flags: int) -> int:
        """Append an op that stands for one call, and return its id."""
        op = self.op_count
        self.op_count = op + 1
        self.ops += (func, kind, span, inner, thread, flags, 1)
        return op

    def update_op(self, op: int, **columns: int) -> None:
        """Change columns of an op that was appended before: the calls of a group, the flags of one that raised."""
        self._op_updates.setdefault(op, {}).update(columns)

    def update(self, table: str, row: int, **columns: int) -> None:
        """Change columns of a row that was appended before; they must be declared as late."""
        self._updates += [(table, row, column, value) for column, value in columns.items()]

    def withdraw_op(self, op: int) -> None:
        """Take back the last op, which did nothing to any tensor, and its uses."""
        self._op_updates.pop(op, None)
        uses = self.pending["uses"]
        while uses and uses[-2] == op:
            del uses[-2:]
        del self.ops[-_OP_WIDTH:]
        self.op_count = op

    def take_out(self, counts: Mapping[str, int]) -> None:
        """Rows of tables were taken out of the recording, by table: so many fewer ids are given."""
        self.op_count -= counts["ops"]
        self.tensor_count -= counts["tensors"]
        self.storage_count -= counts["storages"]
        self.node_count -= counts["nodes"]
        self.event_count -= counts["events"]

    def add_event(self, kind: int, span: int, thread: int, subject: int, detail: str, tensors: list[int]) -> None:
        """Append an event with the rows of the tensors that it is about."""
        event, text = self.event_count, self.text(detail)
        self.event_count = event + 1
        self.pending["events"] += (self.op_count, kind, span, thread, subject, text)
        for tensor in tensors:
            self.pending["event_tensors"] += (event, tensor)

    def fault(self, where: str, traceback: str) -> None:
        """Keep an error of the recorder's own; the same one again is only counted."""
        for known in self.recording.faults:
            if known.traceback == traceback:
                known.count += 1
                return
        self.recording.faults.append(Fault(where, traceback))

    def flush(self) -> None:
        """Move what is pending to the recording's columns, and on to a file.

        Does nothing in a signal handler that came while it is at work; what the handler adds is moved the next time.
        To be safe from such handlers by another thread takes a hundred times what moving a few rows does, so that is
        done only for a file, and where a handler did raise: a move can be taken up again wherever it was left.
        """
        if self._is_flushing:
            return
        if self.on_flush is not None:
            uninterrupted(self._flush)
            return
        try:
            self._flush()
        except BaseException:
            uninterrupted(self._flush)
            raise

    def _flush(self) -> None:
        self._is_flushing = True
        try:
            self._move()
        finally:
            self._is_flushing = False

    def _move(self) -> None:
        recording = self.recording
        self._add_begun()
        for name, values in self.pending.items():
            count = len(values)
            if count:
                table, batch = self._tables[name], values[:count]
                row = len(table)
                # No call stands between the two: rows that are pending no more are begun.
                self._begun = table, row, batch
                del values[:count]
                self._add_begun()
        for owner, deaths in (("tensors", self.tensor_deaths), ("storages", self.storage_deaths)):
            count = len(deaths)
            self.set_pairs(self._tables[owner].column("died"), deaths, count)
            del deaths[:count]
        for op, columns in self._op_updates.items():
            for column, value in columns.items():
                recording.ops.put(op, column, value)
        self._op_updates.clear()
        for name, at, column, value in self._updates:
            self._tables[name].put(at, column, value)
        self._updates.clear()
        if self.on_flush is not None:
            began = perf_counter()
            self.on_flush(recording)
            self._flush_took = perf_counter() - began
            self._pace()

    def _add_begun(self) -> None:
        """Add the rows that were begun, to a table that may have some of them in some of its columns."""
        if self._begun is not None:
            table, row, batch = self._begun
            table.truncate(row)
            table.extend_flat(batch, self.packed)
            self._begun = None

    def is_old(self) -> bool:
        """Whether what is pending should have gone to a file by now."""
        return self.on_flush is not None and perf_counter() - self._flushed_at > AGE

    def is_cheap(self) -> bool:
        """Whether what is pending can go to a file now and that takes little of the run's time."""
        if self.on_flush is None:
            return False
        self._asked += 1
        return self._asked <= _AT_ONCE or perf_counter() - self._flushed_at > _SHARE * self._flush_took

    def limit_batch(self, ops: int) -> None:
        """Let the next batch have no more ops than these."""
        self.flush_at = min(self.flush_at, max(1, ops) * _OP_WIDTH)

    def _pace(self) -> None:
        """Larger batches where they come quickly, smaller ones where what is pending would be old."""
        now = perf_counter()
        is_quick, self._flushed_at = now - self._flushed_at < INTERVAL, now
        batch = self.flush_at * 2 if is_quick else self.flush_at // 2
        self.flush_at = max(FIRST_OPS * _OP_WIDTH, min(FLUSH_OPS * _OP_WIDTH, batch))


def _set_pairs(column: MutableSequence[int], pairs: list[int], count: int) -> None:
    for row, value in zip(pairs[:count:2], pairs[1:count:2], strict=True):
        column[row] = value
