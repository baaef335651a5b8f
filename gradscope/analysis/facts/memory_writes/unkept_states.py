"""Running values of gradients that each round computes from the same old one: what it gives is not kept.

``for p, v in zip(params, velocity): v = mu * v + p.grad; p -= lr * v``: the name gets the sum, the list keeps its
zeros, and the next step begins from them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.lost_averages import named_in
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import last_written
from gradscope.analysis.index import Index
from gradscope.frames.names.decayed_names import DecayedName, decayed_names
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL
from gradscope.recording.rows import OpKind

RUNS = 3
"""Times that one old value has to be read, with as many gradients."""
_STEPS = 8
"""Calls through which a value is followed back to a gradient."""


class UnkeptState(NamedTuple):
    """What one statement computed in all of its runs."""

    op: int
    """The last of the statement."""
    name: str
    olds: list[int]
    """The tensors that each round begins from."""
    runs: int


def unkept_states(index: Index, lives: GradientLives) -> Iterator[UnkeptState]:
    """One for each statement of the user's whose results are never what its next run reads."""
    kinds = index.recording.ops.column("kind")
    for statement, last in index.last_op.items():
        where = index.statements[statement]
        if where.file < 0 or kinds[last] != OpKind.CALL:
            continue
        decayed = decayed_names(index.recording.files[where.file].text).get(where.line)
        if decayed is not None and (found := _of(index, lives, statement, last, decayed)) is not None:
            yield found


def _of(index: Index, lives: GradientLives, statement: int, last: int, decayed: DecayedName) -> UnkeptState | None:
    runs = _runs(index, statement, last)
    if len(runs) < RUNS:
        return None
    named, died = named_in(index, decayed.name, statement), index.recording.tensors.column("died")
    olds: dict[int, list[int]] = {}
    for run in runs:
        own = {made for op in run for made in index.tensors_made(op)}
        taken = [one for op in run for one in index.uses.of(op) if one not in own]
        read = {one for one in taken if one in named}
        if len(read) != 1 or not any(is_of_gradient(index, lives, one) for one in taken if one not in read):
            return None
        olds.setdefault(read.pop(), []).append(run[0])
    written = last_written(index)
    for old, at in olds.items():
        is_new_each_time = index.times(at) < RUNS or old in lives.owners or old in lives.passes
        if is_new_each_time or index.requires_grad(old, at[0]) or not _counts(index, old, decayed):
            return None
        if written.get(index.storage_at(old, last), NONE) > at[0]:
            return None
    for run, following in pairwise(runs):
        gone = [died[made] for made in index.tensors_made(run[-1])]
        if not gone or any(one < 0 or one > following[0] for one in gone):
            return None
    return UnkeptState(last, decayed.name, sorted(olds), index.times(run[-1] for run in runs))


def _runs(index: Index, statement: int, last: int) -> list[list[int]]:
    """The ops of each run of a statement, which ends with the call that it ended with in the end."""
    spans, funcs = (index.recording.ops.column(name) for name in ("span", "func"))
    runs: list[list[int]] = []
    run: list[int] = []
    for op in range(last + 1):
        if index.op_statement[op] == statement:
            run.append(op)
            if (spans[op], funcs[op]) == (spans[last], funcs[last]):
                runs.append(run)
                run = []
    return runs


def _counts(index: Index, old: int, decayed: DecayedName) -> bool:
    """Whether an old value is one to go on from: what is added as it is may be a constant, unless that is zero."""
    op, flags = (index.recording.tensors.column(name)[old] for name in ("op", "flags"))
    return decayed.is_scaled or (not flags & EXTERNAL and "zeros" in index.func(op))


def is_of_gradient(index: Index, lives: GradientLives, tensor: int, steps: int = _STEPS) -> bool:
    """Whether a tensor is a gradient, or was computed from one a few calls before."""
    if tensor in lives.owners:
        return True
    op, flags = (index.recording.tensors.column(name)[tensor] for name in ("op", "flags"))
    if flags & EXTERNAL or op >= index.op_count:
        return False
    if index.recording.ops.column("kind")[op] == OpKind.GRAD:
        return True
    return steps > 0 and any(is_of_gradient(index, lives, one, steps - 1) for one in index.uses.of(op))
