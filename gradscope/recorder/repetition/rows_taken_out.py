"""Taking the rows of some periods out of a recording, so that the rest reads as that of a shorter program."""

from __future__ import annotations

from array import array

from torch import Tensor

from gradscope.recorder.repetition.alike_periods import TABLES, AlikePeriods
from gradscope.recorder.state.moves import Move, Moves, change_from, numbers, put_back
from gradscope.recording import Recording
from gradscope.recording.column_marks import ByKind, RowOf
from gradscope.recording.rows import EventKind
from gradscope.recording.tables import Table

_OF_AN_OP = frozenset(
    map(int, (EventKind.GRADIENTS, EventKind.RAISED, EventKind.FROZEN, EventKind.FACTOR, EventKind.POLE))
)
"""Events whose subject is an op."""

_WITH_ROWS = frozenset(map(int, (EventKind.VALUES, EventKind.MEMORY_CHANGED)))
"""Events in whose details rows are named."""


def moves_of(alike: AlikePeriods) -> dict[str, Move]:
    """What becomes of the ids of each table when periods are taken out."""
    rows = {"ops": (alike.first_op, alike.ops), **alike.rows}
    return {name: Move(start, start + count * alike.periods, count) for name, (start, count) in rows.items()}


def may_be_taken_out(recording: Recording, moves: Moves) -> bool:
    """Whether all that comes after the gap can be told of what is left: texts name rows of some events."""
    events = recording.events.column("kind")
    return not any(kind in _WITH_ROWS for kind in events[moves["events"].start :])


def take_out(recording: Recording, moves: Moves) -> None:
    """Take the rows out that the moves take, and count their ops as alike.

    Args:
        recording: Nothing of it pending.
        moves: By table.
    """
    _count_alike(recording, moves["ops"])
    for name in ("ops", *TABLES):
        table, move = recording.tables[name], moves[name]
        if move.period:
            for column in table.columns.values():
                del column[move.start : move.stop]
        table.rewrite_from(move.start)
        _move_columns(table, move.start, moves)
    _move_bindings(recording, moves)
    _move_subjects(recording, moves)
    for name in ("tensors", "storages"):
        change_from(recording.tables[name].column("died"), moves[name].start, moves["ops"].start, moves["ops"].of_ends)


def _move_columns(table: Table[tuple[int, ...]], start: int, moves: Moves) -> None:
    """Give the rows from one on the ids that others have now."""
    for name, declared in table.declared.items():
        column, holds = table.column(name), declared.holds
        if isinstance(holds, RowOf) and holds.table in moves:
            put_back(column, start, moves[holds.table].of_all(numbers(column, start)))
        elif isinstance(holds, ByKind):
            values, kinds = numbers(column, start), numbers(table.column(holds.kind), start)
            for kind, row in holds.rows.items():
                if row.table in moves:
                    chosen = kinds == int(kind)
                    values[chosen] = moves[row.table].of_all(values[chosen])
            put_back(column, start, values)


def _move_bindings(recording: Recording, moves: Moves) -> None:
    """Names were looked at now and then: those of tensors that are taken out go with them."""
    table = recording.bindings
    tensors, ops = numbers(table.column("tensor")), numbers(table.column("op"))
    gone = (tensors >= moves["tensors"].start) & (tensors < moves["tensors"].stop)
    moved = (tensors >= moves["tensors"].start) | (ops >= moves["ops"].start)
    if not len(moved) or not bool(moved.any()):
        return
    first = int(moved.nonzero()[0])
    stays = (~gone)[first:]
    for name, column in table.columns.items():
        values = numbers(column, first)[stays]
        if name in ("tensor", "op"):
            values = moves["tensors" if name == "tensor" else "ops"].of_all(values)
        del column[first:]
        _extend(column, values)
    table.rewrite_from(first)


def _move_subjects(recording: Recording, moves: Moves) -> None:
    events, start = recording.events, moves["events"].start
    subjects, kinds = events.column("subject"), events.column("kind")
    for at in range(start, len(events)):
        if kinds[at] in _OF_AN_OP:
            subjects[at] = moves["ops"](subjects[at])


def _count_alike(recording: Recording, ops: Move) -> None:
    """Count the ops that are taken out, and what they stood for, with those in the same place of the period before."""
    table, first = recording.alike, ops.start - ops.period
    known = [at for at, op in enumerate(table.column("op")) if op >= first][:1] or [len(table)]
    counted = {row.op: row.times for row in (table[at] for at in range(known[0], len(table)))}
    for op in range(ops.start, ops.stop):
        standing = ops(op)
        counted[standing] = counted.get(standing, 0) + 1 + counted.pop(op, 0)
    table.truncate(known[0])
    table.rewrite_from(known[0])
    table.extend((ops(op), times) for op, times in sorted(counted.items()))


def _extend(column: array[int], values: Tensor) -> None:
    start = len(column)
    column.frombytes(bytes(column.itemsize * len(values)))
    put_back(column, start, values)
