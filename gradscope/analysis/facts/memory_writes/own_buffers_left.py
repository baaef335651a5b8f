"""Copies whose weights follow those of a trained model, and whose own buffers stay as the copy was made with them.

A model that scales its inputs by statistics it keeps itself (``register_buffer``) is as a batch norm is: a copy that is
averaged by ``parameters()`` computes with new weights and old statistics. It shows where one call of the program's
takes the model's buffer, which the model writes between its steps, and at the same place the copy's, which nothing
writes.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.averages_without_statistics import RUNS
from gradscope.analysis.facts.memory_writes.followed_weights import FollowedWeights
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import last_written, writes_by_program
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

_REACH = 24
"""Calls through which the result of one is followed to one that takes a weight."""


class OwnBufferLeft(NamedTuple):
    """One buffer of a copy."""

    buffer: int
    source: int
    """The trained model's."""
    weight: int
    """A weight of the copy, which is computed with what the buffer gave, or the other way round."""
    followed: int
    """The trained one that it follows."""
    ops: tuple[int, ...]
    """The writes of that weight, with a step before each but the first."""
    wrote: int
    """The last call that wrote the trained model's buffer."""
    used: tuple[int, ...]
    """Calls that took the copy's, after at least so many writes as ``RUNS``."""


def own_buffers_left(index: Index, lives: GradientLives) -> list[OwnBufferLeft]:
    """Those of one recording."""
    learned = _learned(index, lives) if lives.steps else {}
    twins = _twins(index, learned) if learned else []
    weights = [_weight_beside(index, lives, uses) for _, _, uses in twins]
    if not twins or not any(weight >= 0 for weight in weights):
        return []
    following, last = FollowedWeights(index, lives, {one for one in weights if one >= 0}), last_written(index)
    found = []
    for (buffer, source, uses), weight in zip(twins, weights, strict=True):
        ops, followed = following.followed(weight) if weight >= 0 else ((), NONE)
        storage = index.storage_at(buffer, uses[-1])
        if len(ops) < RUNS or max(index.recording.storages.column("op")[storage], last.get(storage, NONE)) >= ops[0]:
            continue
        wrote = learned[index.storage_at(source, uses[-1])]
        used = tuple(op for op in uses if op > ops[RUNS - 1])
        if used and len(ops_between(wrote, ops[0], used[-1])) >= RUNS:
            found.append(OwnBufferLeft(buffer, source, weight, followed, ops, wrote[-1], used))
    return found


def _learned(index: Index, lives: GradientLives) -> dict[int, list[int]]:
    """For each memory block that is no parameter's the calls that wrote what others gave into it, between steps.

    A counter or a rate that a number changes is a schedule, of which a copy may have its own.
    """
    kinds, flags = index.recording.ops.column("kind"), index.recording.tensors.column("flags")
    steps = sorted({op for ops in lives.steps.values() for op in ops})
    found: dict[int, list[int]] = {}
    for op, tensor, _, _ in writes_by_program(index):
        others = {index.storage_at(one, op) for one in index.uses.of(op)} - {index.storage_at(tensor, op)}
        if kinds[op] == OpKind.CALL and others and not flags[tensor] & PARAMETER and tensor not in lives.owners:
            found.setdefault(index.storage_at(tensor, op), []).append(op)
    found.pop(NONE, None)
    return {on: ops for on, ops in found.items() if sum(_rounds(steps, ops)) >= RUNS}


def _rounds(steps: list[int], ops: list[int]) -> list[bool]:
    """For each of some ops whether a step was made since the one before."""
    return [not at or bool(ops_between(steps, ops[at - 1], op)) for at, op in enumerate(ops)]


def _twins(index: Index, learned: dict[int, list[int]]) -> list[tuple[int, int, list[int]]]:
    """What nothing trained writes, beside a learned buffer of its layout, with that and with the calls that took it.

    Both are taken by one call of the program's at one place of it, and no other tensor is a twin of the buffer.
    """
    spans, layouts = index.recording.ops.column("span"), index.recording.tensors.column("layout")
    flags = index.recording.tensors.column("flags")
    on = index.recording.tensors.column("storage")
    taken: dict[tuple[int, str, int], dict[int, int]] = {}
    for tensor, storage in enumerate(on):
        for op in index.users.of(tensor) if storage in learned else ():
            if op not in learned[storage] and spans[op] >= 0:
                taken.setdefault((spans[op], index.method(op), list(index.uses.of(op)).index(tensor)), {})[tensor] = op
    found: dict[tuple[int, int], list[int]] = {}
    for op, span in enumerate(spans):
        for place, tensor in enumerate(index.uses.of(op)) if span >= 0 else ():
            sources = taken.get((span, index.method(op), place), {})
            if len(sources) == 1 and on[tensor] >= 0 and on[tensor] not in learned and not flags[tensor] & PARAMETER:
                source = next(iter(sources))
                if layouts[source] == layouts[tensor]:
                    found.setdefault((tensor, source), []).append(op)
    return [(*pair, ops) for pair, ops in found.items()]


def _weight_beside(index: Index, lives: GradientLives, uses: list[int]) -> int:
    """A weight that no step changes, by a call that takes what the last of some calls gave; NONE for none."""
    flags = index.recording.tensors.column("flags")
    todo, seen = [uses[-1]], {uses[-1]}
    while todo and len(seen) < _REACH:
        op = todo.pop(0)
        for taken in index.uses.of(op):
            if flags[taken] & PARAMETER:
                return NONE if taken in lives.steps else taken
        new = [user for made in index.tensors_made(op) for user in index.users.of(made) if user not in seen]
        seen.update(new)
        todo += new
    return NONE
