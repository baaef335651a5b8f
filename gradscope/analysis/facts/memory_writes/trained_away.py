"""Values that were kept, became the memory of parameters as they were put back, and were used when steps had changed
them.

``vector_to_parameters(best, net.parameters())`` and ``p.data = best[name]`` copy nothing. That steps change what was
put there is no mistake where nobody asks for it again; these ask for what it was:

- it is put back where it lies already, which changes nothing, or later, under a name that says that it was kept;
- it is compared with the parameters, or subtracted from them, which are the same elements;
- it is what another network starts from, that is trained as well;
- it was gathered of the parameters at one of several times, which is how values are kept, and another network gets it.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from math import prod
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.put_on_trained import SETS, source_of
from gradscope.analysis.facts.memory_writes.stale_snapshots import PAST
from gradscope.analysis.facts.passes.gradient_lives import GradientLives, ops_between
from gradscope.analysis.facts.storage_groups import StorageGroups, numbers_in
from gradscope.analysis.facts.writes import all_writes, is_step
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER

STEPS = 2
"""Steps that changed the values before they are used again."""
_VECTOR = "nn.utils.vector_to_parameters"
_COMPARED = re.compile(
    r"(Tensor|torch)\.(sub|sub_|subtract|rsub|__rsub__|dist|lerp|lerp_|copy_)|torch\._foreach_(sub|copy_|lerp)_?"
    r"|F\.(mse_loss|l1_loss|smooth_l1_loss|cosine_similarity)|torch\.cosine_similarity"
)
"""Calls whose result is known beforehand where both tensors are the same elements, and that are no checks of that."""
_GATHERS = ("nn.utils.parameters_to_vector", "torch.cat", "torch.concat", "torch.hstack")
_COPIES = re.compile(r"Tensor\.(detach|clone|data\.__get__|view|reshape|flatten|__getitem__)|torch\.(clone|flatten)")
_LONGEST = 6


class TrainedAway(NamedTuple):
    """One parameter, and the values that it was put on."""

    op: int
    """The call that put it there."""
    parameter: int
    values: tuple[int, ...]
    """What it was put on: the tensor that was given, and what that is the ``.data`` of."""
    steps: list[int]
    """Those that changed the values."""
    read: int
    """The call that used them afterwards."""
    again: int = NONE
    """The parameter that was put on them by that call: the same, or another network's; NONE where it compares."""
    was_there: bool = False
    """Whether that parameter lay there already."""


class _Put(NamedTuple):
    op: int
    parameter: int
    values: tuple[int, ...]
    place: tuple[int, int]
    """The memory block, and the elements before."""


def trained_away(
    index: Index, lives: GradientLives, sharing: StorageGroups, held: dict[int, list[tuple[int, int, int]]]
) -> Iterator[TrainedAway]:
    """The first such use of each parameter's values.

    Args:
        index: The recording.
        lives: Steps of its parameters.
        sharing: Which tensors share memory.
        held: For each tensor the names under which it was seen, with op and span.
    """
    by_parameter: dict[int, list[_Put]] = {}
    by_place: dict[tuple[int, int], list[_Put]] = {}
    for put in _puts(index, sharing):
        if put.parameter in lives.steps:
            by_parameter.setdefault(put.parameter, []).append(put)
        by_place.setdefault(put.place, []).append(put)
    # What a parameter is changed to besides is no change of what was kept that anyone asked for.
    written = [_written_otherwise(index, by_parameter, but_them) if by_parameter else {} for but_them in (False, True)]
    moved = {tensor: [op for op, _ in moves] for tensor, moves in index.moves.items()}

    def names(put: _Put) -> list[str]:
        return [index.recording.text(name) for one in put.values for name, _, _ in held.get(one, ())]

    for parameter, puts in by_parameter.items():
        for number, put in enumerate(puts):
            left = [one.op for one in puts[number + 1 :] if one.place != put.place]
            end = min(op for op in (*left, *moved.get(parameter, ()), index.op_count) if op > put.op)
            steps = ops_between(lives.steps[parameter], put.op, end)
            if len(steps) < STEPS:
                continue
            first = next(one for one in puts if one.place == put.place)
            is_moment = _is_of_a_moment(index, lives, first)
            is_kept = is_moment or any(map(PAST.search, names(put)))
            again = [one.op for one in puts[number + 1 :] if one.place == put.place]
            others = [one for one in by_place[put.place] if one.parameter != parameter and one.op < end]
            uses = [
                *((op, parameter) for op in again[:1] if op < end),
                *((op, parameter) for op in again if op > end and is_kept),
                *((one.op, one.parameter) for one in others if is_moment or _is_trained_apart(lives, steps, one)),
                *((op, NONE) for op in _compared(index, put, steps)),
            ]
            fit = [
                (op, onto)
                for op, onto in sorted(uses)
                if len(ops_between(steps, put.op, op)) >= STEPS
                and not ops_between(written[is_moment].get(put.place[0], []), put.op, op)
            ]
            if fit:
                op, onto = fit[0]
                changed = ops_between(steps, put.op, op)
                yield TrainedAway(put.op, parameter, put.values, changed, op, onto, op < end)
                break


def _puts(index: Index, sharing: StorageGroups) -> Iterator[_Put]:
    """What put parameters on the memory of a tensor that is no parameter, in order."""
    flags = index.recording.tensors.column("flags")
    for op in index.calls_of(lambda func: func in SETS or func == _VECTOR):
        taken = index.uses.of(op)
        is_vector = index.func(op) == _VECTOR
        if len(taken) < 2:
            continue
        given, put = (taken[0], taken[1:]) if is_vector else (taken[1], taken[:1])
        values, offset = (given, source_of(index, given)), sharing.offset_of(given)
        storage = index.storage_at(given, op)
        for parameter in put:
            is_there = storage >= 0 and index.storage_at(parameter, op) == storage
            is_parameter = bool(flags[parameter] & PARAMETER)
            if is_there and is_parameter and not any(flags[value] & PARAMETER for value in values):
                yield _Put(op, parameter, values, (storage, offset))
            layout = index.recording.layouts[index.layout_at(parameter, op)]
            offset += prod(numbers_in(index.recording.text(layout.shape)))


def _is_trained_apart(lives: GradientLives, steps: list[int], put: _Put) -> bool:
    """Whether what was put on values later is trained by steps that are not those of the first."""
    own = [op for op in lives.steps.get(put.parameter, ()) if op > put.op]
    return len(own) >= STEPS and not {*own} & {*steps}


def _is_of_a_moment(index: Index, lives: GradientLives, put: _Put) -> bool:
    """Whether the values, as they are first put there, are those that a parameter had at one of several times.

    Steps changed it since they were taken, or between the runs of what took them, which is run more often than what
    puts them back. One vector that is made once, and that the parameters are put on at once, is their memory from then
    on: it is meant to change with them.
    """
    taken = _taken_of(index, put)
    if taken < 0:
        return False
    steps = lives.steps[put.parameter]
    if ops_between(steps, taken, put.op):
        return True
    runs, puts = (_runs(index, op, put.parameter) for op in (taken, put.op))
    return len(runs) > len(puts) and bool(ops_between(steps, runs[0], runs[-1]))


def _runs(index: Index, op: int, parameter: int) -> list[int]:
    """The calls of the same function in the same statement that take a parameter."""
    statement, func = index.op_statement[op], index.func(op)
    return [at for at in index.users.of(parameter) if index.op_statement[at] == statement and index.func(at) == func]


def _taken_of(index: Index, put: _Put) -> int:
    """The call that took the values of the parameter; NONE where they are not a copy of them."""
    tensor = put.values[-1]
    for _ in range(_LONGEST):
        made = index.made_by(tensor)
        if not 0 <= made < put.op:
            break
        taken = index.uses.of(made)
        if index.func(made) in _GATHERS or _COPIES.fullmatch(index.method(made)):
            if put.parameter in taken:
                return made
            if len(taken):
                tensor = taken[0]
                continue
        break
    return NONE


def _written_otherwise(index: Index, parameters: Container[int], but_them: bool) -> dict[int, list[int]]:
    """For each memory block the ops, no steps of optimizers, that wrote it, in order; not through parameters, if asked.

    Args:
        index: The recording.
        parameters: These.
        but_them: Whether to leave out what was written through them.
    """
    found: dict[int, list[int]] = {}
    made_at = index.recording.tensors.column("op")
    for op, tensor, _, _ in all_writes(index):
        is_birth = op == made_at[tensor]  # (a view has the version of its base)
        if but_them and tensor in parameters:
            continue
        if op < index.op_count and not is_birth and not is_step(index, op) and index.func(op) not in SETS:
            found.setdefault(index.storage_at(tensor, op), []).append(op)
    return found


def _compared(index: Index, put: _Put, steps: list[int]) -> Iterator[int]:
    """The calls that take the values beside the parameter, or beside what was put together of the parameters."""
    for op in sorted({op for value in put.values for op in index.users.of(value) if op > steps[0]}):
        others = [one for one in index.uses.of(op) if one not in put.values]
        if _COMPARED.fullmatch(index.func(op)) and any(
            _is_made_of(index, source_of(index, one), put, steps[0]) for one in others
        ):
            yield op


def _is_made_of(index: Index, tensor: int, put: _Put, since: int) -> bool:
    """Whether a tensor is the parameter, or was put together of parameters on that memory since a step."""
    if tensor == put.parameter:
        return True
    made = index.made_by(tensor)
    if not since < made < index.op_count or index.func(made) not in _GATHERS:
        return False
    return any(index.storage_at(one, made) == put.place[0] for one in index.uses.of(made))
