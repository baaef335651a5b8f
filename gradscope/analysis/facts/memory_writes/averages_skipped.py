"""Averages, or other values kept by name, that a loop over the names of a module updates, and that it never did.

The text says what the loop is to do, and for which names; that it was called, and that no call was seen in what it is
to do, says that no name was among those that are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.index import Index
from gradscope.frames.blocks.skipped_by_name import SkippedByName, skipped_by_name
from gradscope.recording.rows import OpKind

RUNS = 2
"""Runs of the function, and steps of optimizers before the last of them, from which on it is reported."""


class SkippedAverage(NamedTuple):
    """One condition that was never true."""

    file: int
    skipped: SkippedByName
    runs: list[int]
    """Of the ops of each run of the function one."""
    made: int
    """An op that made what is kept."""


def skipped_averages(index: Index) -> Iterator[SkippedAverage]:
    """Those of the user's files."""
    steps = index.of_kind(OpKind.STEP)
    for file, source in enumerate(index.recording.files):
        conditions = skipped_by_name(source.text) if source.is_user and len(steps) >= RUNS else ()
        by_line = _ops_by_line(index, file) if conditions else {}
        for one in conditions:
            made = [op for first, last in one.made for line in range(first, last + 1) for op in by_line.get(line, ())]
            done = any(line in by_line for line in range(one.body[0], one.body[1] + 1))
            inside = sorted(op for line in range(one.lines[0], one.lines[1] + 1) for op in by_line.get(line, ()))
            runs = _runs(index, inside)
            before = [step for step in steps if made and runs and min(made) < step < runs[-1]]
            if made and not done and index.times(runs) >= RUNS and index.times(before) >= RUNS:
                yield SkippedAverage(file, one, runs, min(made))


def _ops_by_line(index: Index, file: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for op in range(index.op_count):
        where = index.statements[index.op_statement[op]]
        if where.file == file:
            for line in {int(index.op_line(op)), where.line}:
                found.setdefault(line, []).append(op)
    return found


def _runs(index: Index, inside: list[int]) -> list[int]:
    """The first call of each run of a function: the one that its first run began with, and those like it."""
    if not inside:
        return []
    first = inside[0]
    return [
        op
        for op in inside
        if index.func(op) == index.func(first) and index.op_statement[op] == index.op_statement[first]
    ]
