"""Parameters that ``x.data = y.data`` put on the memory of others, again and again, as if it copied their values.

Either ``y`` is trained, and ``x`` is to be brought up to date now and then; or ``x`` is, starting from ``y`` each time.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.put_on_trained import SETS, source_of, used_alone
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps between two runs of the statement."""


class AssignedMemory(NamedTuple):
    """One statement that was run again when both lay on one memory."""

    op: int
    """Its last call."""
    pairs: list[tuple[int, int]]
    """What was set, and the parameter on whose memory it was put."""
    steps: int
    """Steps that changed one of these between two runs of the statement."""
    stepped_at: int = NONE
    """The last step of what was set; NONE where the other one is stepped."""


def assigned_again(index: Index, lives: GradientLives) -> list[AssignedMemory]:
    """The statements that gave a parameter the memory that it had already, several steps later: a copy was meant.

    What is put there again after each step may be meant to be one with the other; and what is only used before the next
    step, as in an evaluation, has the values that it was to have.
    """
    last: dict[tuple[int, int], int] = {}
    found: dict[int, dict[tuple[int, int], tuple[int, int]]] = {}
    for op in index.calls_of(SETS.__contains__):
        taken = index.uses.of(op)
        pair = (taken[0], source_of(index, taken[1])) if len(taken) == 2 else (NONE, NONE)
        steps = lives.steps.get(pair[1], ())
        if not steps or pair[0] == pair[1] or pair[0] in lives.steps:
            continue
        between = ops_between(steps, last.get(pair, op), op)
        is_there = index.storage_at(pair[0], op - 1) == index.storage_at(pair[1], op - 1)
        if len(between) >= STEPS and is_there and ops_between(used_alone(index, *pair), between[0], op):
            found.setdefault(index.op_statement[op], {})[pair] = (op, len(between))
        last[pair] = op
    return [
        AssignedMemory(max(op for op, _ in seen.values()), list(seen), max(count for _, count in seen.values()))
        for seen in found.values()
    ]


def assigned_and_stepped(index: Index, lives: GradientLives) -> list[AssignedMemory]:
    """The statements that put what an optimizer steps on a parameter's memory, where steps then write that one, too.

    The statement ran again for the same parameter after such steps, and between two runs the program gave it other
    values itself: the steps were not meant to train it, as they are where a part of a larger network is trained.
    """
    sets = index.calls_of(SETS.__contains__)
    if not any(taken[:1] and taken[0] in lives.steps for taken in map(index.uses.of, sets)):
        return []
    tenants, overwritten = _tenants(index), _overwritten(index)
    runs: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for op in sets:
        taken = index.uses.of(op)
        put = taken[0] if len(taken) == 2 else NONE
        storage = index.storage_at(put, op) if put in lives.steps else NONE
        owner = next((one for since, one in tenants.get(storage, ()) if since < op and one != put), NONE)
        if owner >= 0 and owner not in lives.steps and index.storage_at(owner, op) == storage:
            runs.setdefault((index.op_statement[op], owner), []).append((op, put))
    found, counts = dict[int, list[tuple[int, int, int, int]]](), dict[int, int]()
    for (statement, owner), several in runs.items():
        steps = [
            step
            for (op, put), (again, _) in pairwise(several)
            for step in lives.steps[put]
            if op < step < again and index.storage_at(put, step) == index.storage_at(owner, op)
        ]
        if len(steps) >= STEPS and any(steps[0] < op < several[-1][0] for op in overwritten.get(owner, ())):
            found.setdefault(statement, []).append((*several[-1], owner, steps[-1]))
            counts[statement] = max(counts.get(statement, 0), index.times(steps))
    return [
        AssignedMemory(
            max(op for op, *_ in seen),
            [(put, owner) for _, put, owner, _ in seen],
            counts[statement],
            max(step for *_, step in seen),
        )
        for statement, seen in found.items()
    ]


def _tenants(index: Index) -> dict[int, list[tuple[int, int]]]:
    """For each storage the parameters that were put on it, with the op since which each is, in order."""
    columns = (index.recording.tensors.column(name) for name in ("flags", "storage", "op"))
    found: dict[int, list[tuple[int, int]]] = {}
    for tensor, (flags, storage, op) in enumerate(zip(*columns, strict=True)):
        if flags & PARAMETER:
            for since, place in ((op, storage), *index.moves.get(tensor, ())):
                found.setdefault(place, []).append((since, tensor))
    return {storage: sorted(several) for storage, several in found.items() if storage >= 0}


def _overwritten(index: Index) -> dict[int, list[int]]:
    """For each tensor the ops, no steps, that gave it other values: in place, or by other memory."""
    kinds = index.recording.ops.column("kind")
    found = {tensor: [op for op, _ in moves] for tensor, moves in index.moves.items()}
    for op, tensor, _, _ in all_writes(index):
        if op < index.op_count and kinds[op] != OpKind.STEP:
            found.setdefault(tensor, []).append(op)
    return found
