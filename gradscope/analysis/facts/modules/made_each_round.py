"""Parameters that a loop makes anew in each of its rounds, beside a training that goes on: each dies untrained."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.writes import all_steps, last_written
from gradscope.analysis.index import NOWHERE, Index
from gradscope.frames.modules.made_by_constructors import Construction, construction
from gradscope.recording import NONE
from gradscope.recording.flags import PARAMETER
from gradscope.recording.rows import OpKind

TIMES = 3
"""Rounds from which on it is reported."""
_READS = "Tensor.grad.__get__"
_COPIES = ("__deepcopy__", ".deepcopy")
_STEPS = 6
"""Calls from what a parameter wraps back to another parameter."""
_GRADIENTS = (OpKind.BACKWARD, OpKind.GRAD, OpKind.STEP)
_FOLLOWED = 400
"""Calls behind a parameter in which it is looked for what is trained."""


class MadeEachRound(NamedTuple):
    """What one line has made."""

    file: int
    at: Construction
    ops: tuple[int, ...]
    """That made one of them in each round."""
    leaves: tuple[int, ...]
    """The parameters of the last round."""


def made_each_round(index: Index, lives: GradientLives, held: Collection[int]) -> list[MadeEachRound]:
    """One for each line, none where one of its parameters was read, written or kept.

    Args:
        index: The recording.
        lives: Its gradients.
        held: Parameters that optimizers have.
    """
    by_statement = _by_statement(index, lives)
    if not by_statement:
        return []
    steps, written = all_steps(index), last_written(index)
    read = {tensor for op in index.calls_of(_READS.__eq__) for tensor in index.uses.of(op)}
    found: dict[tuple[int, Construction], dict[int, list[int]]] = {}
    for statement, made in by_statement.items():
        leaves = [leaf for several in made.values() for leaf in several]
        where = index.statements[statement]
        at = construction(index.recording.files[where.file].text, int(where.line)) if where.file >= 0 else None
        if (
            at is not None
            and not any(_is_written(index, lives, leaf, written) for leaf in leaves)
            and not any(leaf in held or leaf in read or leaf in lives.steps for leaf in leaves)
            and _are_dropped(index, lives, made)
            and bisect_left(steps, min(made)) + TIMES - 1 <= bisect_left(steps, max(made))
            and not (_are_layers(index, made) and _is_before_trained(index, lives, made[max(made)]))
        ):
            found.setdefault((where.file, at), {}).update(made)
    return [
        MadeEachRound(file, at, _one_of_each_round(index, made), _of_last_round(index, made))
        for (file, at), made in found.items()
    ]


def _by_statement(index: Index, lives: GradientLives) -> dict[int, dict[int, list[int]]]:
    """The parameters that statements made several times, by the op that made them."""
    flags = index.recording.tensors.column("flags")
    found: dict[int, dict[int, list[int]]] = {}
    for leaf in lives.passes:
        op = index.made_by(leaf) if flags[leaf] & PARAMETER else NONE
        if 0 <= op < index.op_count and index.op_statement[op] != NOWHERE and not _is_copy(index, op, leaf):
            found.setdefault(index.op_statement[op], {}).setdefault(op, []).append(leaf)
    return {
        statement: made
        for statement, made in found.items()
        if len({_round(lives, all_) for all_ in made.values()}) >= TIMES
    }


def _round(lives: GradientLives, leaves: list[int]) -> int:
    """The pass that gave parameters their gradients."""
    return lives.passes[leaves[0]][0]


def _is_copy(index: Index, op: int, leaf: int) -> bool:
    """Whether a parameter is a copy of another, or was computed from one: an adapted weight, a mask put on."""
    is_copied = index.func(op).endswith(_COPIES)
    if is_copied or index.recording.ops.column("kind")[op] == OpKind.GROUP:
        return is_copied  # (a layer's initialisation takes its own parameters)
    flags, storages = (index.recording.tensors.column(name) for name in ("flags", "storage"))
    # What a parameter wraps is no input of the call: it is what the memory was allocated for.
    allocated = index.recording.storages.column("op")[storages[leaf]] if storages[leaf] >= 0 else op
    todo = {one for at in {op, allocated} if at < index.op_count for one in index.uses.of(at) if one != leaf}
    for _ in range(_STEPS):
        if any(flags[one] & PARAMETER and storages[one] != storages[leaf] for one in todo):
            return True
        todo = {
            used for one in todo if 0 <= (made := index.made_by(one)) < index.op_count for used in index.uses.of(made)
        }
    return False


def _is_written(index: Index, lives: GradientLives, leaf: int, written: dict[int, int]) -> bool:
    """Whether a parameter was written after it got a gradient: by whatever updates it."""
    return written.get(index.storage_at(leaf, NONE), NONE) > lives.passes[leaf][0]


def _are_dropped(index: Index, lives: GradientLives, made: dict[int, list[int]]) -> bool:
    """Whether of all but the last round nothing was kept."""
    died = index.recording.tensors.column("died")
    last = max(_round(lives, leaves) for leaves in made.values())
    return all(died[leaf] != NONE for leaves in made.values() for leaf in leaves if lives.passes[leaf][0] < last)


def _are_layers(index: Index, made: dict[int, list[int]]) -> bool:
    """Whether layers of torch's were made, and no parameters that the program wraps itself."""
    return index.recording.ops.column("kind")[max(made)] == OpKind.GROUP


def _is_before_trained(index: Index, lives: GradientLives, leaves: list[int]) -> bool:
    """Whether what a layer gives goes into layers that are trained: a random one may be there to change the data."""
    own, todo, left = set(leaves), list(leaves), _FOLLOWED
    seen, kinds = set(todo), index.recording.ops.column("kind")
    while todo and left:
        for op in (one for one in index.users.of(todo.pop()) if kinds[one] not in _GRADIENTS):
            left -= 1
            if any(one in lives.steps and one not in own for one in index.uses.of(op)):
                return True
            if left <= 0:
                break
            new = [one for one in index.tensors_made(op) if one not in seen]
            seen.update(new)
            todo += new
    return False


def _one_of_each_round(index: Index, made: dict[int, list[int]]) -> tuple[int, ...]:
    """The ops of the statement that was run most often."""
    by_statement: dict[int, list[int]] = {}
    for op in sorted(made):
        by_statement.setdefault(index.op_statement[op], []).append(op)
    first = max(by_statement.values(), key=len)
    spans = index.recording.ops.column("span")
    return tuple(op for op in first if spans[op] == spans[first[0]])


def _of_last_round(index: Index, made: dict[int, list[int]]) -> tuple[int, ...]:
    """The parameters of the last op at each span."""
    spans = index.recording.ops.column("span")
    last = {spans[op]: op for op in sorted(made)}
    return tuple(sorted({leaf for op in last.values() for leaf in made[op]}))
