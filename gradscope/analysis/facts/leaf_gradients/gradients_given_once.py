"""Gradients that were given to another tensor once, while the tensor that they are of gets new ones in each round.

``master.grad = weight.grad`` makes one tensor the gradient of both. Where the gradients of the weight are set to None
in between, the next pass makes another tensor, and steps of the master go on with the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from gradscope.analysis.facts.passes.gradient_lives import GradientLives, last_before, ops_between
from gradscope.analysis.facts.writes import all_writes
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.rows import Field, GradOutcome, OpKind

STEPS = 4
"""Steps with one gradient from which on it is told, where the other tensor got new ones between so many, but one."""
_COPIES = ("clone", "detach", "to", "float", "half", "double", "bfloat16", "cpu", "cuda")


class GivenOnce(NamedTuple):
    """A tensor that kept the gradient it was given."""

    tensor: int
    source: int
    """The tensor that it is the gradient of."""
    op: int
    """What gave it."""
    steps: list[int]


def given_once(index: Index, lives: GradientLives) -> list[GivenOnce]:
    """One for each such tensor."""
    changes, storages = index.recording.changes, index.recording.tensors.column("storage")
    columns = (changes.column(name) for name in ("op", "tensor", "field", "after"))
    sets: dict[int, list[tuple[int, int]]] = {}
    for op, tensor, field, gradient in zip(*columns, strict=True):
        if field == Field.GRAD and op < index.op_count:
            sets.setdefault(tensor, []).append((op, gradient))
    last = {tensor: rows[-1] for tensor, rows in sets.items() if rows[-1][1] >= 0}
    if not last:
        return []
    written: dict[int, list[int]] = {}
    stepped: dict[int, set[int]] = {}
    for op, tensor, _, _ in all_writes(index):
        if op >= index.op_count:
            continue
        written.setdefault(storages[tensor], []).append(op)
        if tensor in last and index.recording.ops.column("kind")[op] == OpKind.STEP:
            stepped.setdefault(tensor, set()).add(op)
    fresh, owners = _fresh(index)
    found = []
    for tensor, (op, gradient) in last.items():
        steps = sorted(step for step in stepped.get(tensor, ()) if step > op)
        if len(steps) < STEPS or any(op < other < steps[-1] for other in _others(lives, tensor)):
            continue
        if any(op < write <= steps[-1] for write in written.get(storages[gradient], ())):
            continue
        source = _source(index, owners, gradient)
        made = fresh.get(source, [])
        renewed = [step for before, step in pairwise(steps) if ops_between(made, before, step)]
        is_left = source != tensor and len(renewed) >= STEPS - 1 and last_before(made, op) >= 0
        if is_left and not _is_array(index, storages[gradient]):
            found.append(GivenOnce(tensor, source, op, steps))
    return found


def _others(lives: GradientLives, tensor: int) -> Iterator[int]:
    """What else was done to a tensor's gradient: passes, and what cleared it."""
    yield from lives.passes.get(tensor, ())
    yield from lives.cleared.get(tensor, ())


def _is_array(index: Index, storage: int) -> bool:
    """Whether some memory was given to numpy, which may write it unseen."""
    storages = index.recording.tensors.column("storage")
    uses = zip(index.uses.keys, index.uses.values, strict=True)
    return any(storages[taken] == storage and "numpy" in index.func(op) for op, taken in uses)


def _source(index: Index, owners: dict[int, int], gradient: int) -> int:
    """The tensor for which a pass made a gradient, or what one call copied it from; NONE for none."""
    made = index.made_by(gradient)
    taken = index.uses.of(made) if made >= 0 and index.func(made).rpartition(".")[2] in _COPIES else ()
    return next((owners[one] for one in (gradient, *taken) if one in owners), NONE)


def _fresh(index: Index) -> tuple[dict[int, list[int]], dict[int, int]]:
    """The passes that made each tensor a gradient of its own, and for each such gradient its tensor."""
    rows, found, owners = index.recording.gradients, dict[int, list[int]](), dict[int, int]()
    columns = (rows.column(name) for name in ("op", "tensor", "outcome", "grad"))
    for op, tensor, outcome, gradient in zip(*columns, strict=True):
        if outcome == GradOutcome.CREATED:
            found.setdefault(tensor, []).append(op)
            owners.setdefault(gradient, tensor)
    return found, owners
