"""Numbers with a graph that each round computes and that nothing takes: the term of a loss that was not added to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.index import Index
from gradscope.frames.values.unused_values import UnusedValue, unused_values
from gradscope.recording.flags import GRAD
from gradscope.recording.rows import OpKind

ROUNDS = 3
"""Times that it is computed, with passes between, from which on it is reported."""


class UnusedTerm(NamedTuple):
    """One statement that computes one."""

    value: UnusedValue
    op: int
    """The last call that gave it."""
    tensor: int
    rounds: int


def unused_terms(index: Index, passes: Passes) -> Iterator[UnusedTerm]:
    """One for each statement."""
    for number, file in enumerate(index.recording.files):
        for value in unused_values(file.text) if file.is_user else ():
            found = _of(index, passes, number, value)
            if found is not None:
                yield found


def _of(index: Index, passes: Passes, file: int, value: UnusedValue) -> UnusedTerm | None:
    tensors, layouts = index.recording.tensors, index.recording.layouts
    nodes, kept = tensors.column("node"), tensors.column("layout")
    statements = {
        number
        for number, one in enumerate(index.statements)
        if one.file == file and value.line <= one.line and one.end_line <= value.end_line
    }
    last = [op for op in (index.last_op.get(statement, -1) for statement in statements) if op >= 0]
    if not last:
        return None
    spans, funcs = (index.recording.ops.column(name) for name in ("span", "func"))
    op = max(last)
    runs = [one for one in range(index.op_count) if spans[one] == spans[op] and funcs[one] == funcs[op]]
    flags, made = index.recording.ops.column("flags"), list[int]()
    for run in (one for one in runs if flags[one] & GRAD):
        given = index.tensors_made(run)
        if len(given) != 1 or nodes[given[0]] < 0 or index.recording.text(layouts[kept[given[0]]].shape) != "()":
            return None
        if len(index.users.of(given[0])) or passes.first_walked_at[nodes[given[0]]] >= 0:
            return None
        made.append(given[0])
    if len(made) < ROUNDS:
        return None
    first, until = tensors.column("op")[made[0]], tensors.column("op")[made[-1]]
    between = [one for one in index.of_kind(OpKind.BACKWARD) if first < one < until]
    if len(between) < ROUNDS - 1:
        return None
    return UnusedTerm(value, op, made[-1], index.times(runs))
