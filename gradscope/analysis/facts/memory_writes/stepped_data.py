"""Parameters that were made on the memory of data which the program goes on with, so that their steps change the data.

``nn.Parameter(points[:k])`` and ``nn.Embedding.from_pretrained(vectors, freeze=False)`` copy nothing. That two were
meant shows by what is read after the steps: the data of which the parameter is a part only, in training; the data
beside the parameter, as if they were two; or another parameter that was made of the same data.
Where parameters make up the whole of a memory, it is a flat one that was made for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.preparing_writes import meets_trained
from gradscope.analysis.facts.memory_writes.put_on_trained import used_alone
from gradscope.analysis.facts.memory_writes.stale_snapshots import BESIDE
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.storage_groups import StorageGroups, overlap
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import GRADIENT, PARAMETER, REQUIRES_GRAD
from gradscope.recording.rows import OpKind

STEPS = 2
"""Steps from which on it is told."""


class SteppedData(NamedTuple):
    """A parameter, and the data on whose memory it was made."""

    leaf: int
    data: int
    other: int
    """Another parameter that was made of the same data, and is what was read; NONE where the data was."""
    is_stepped_with: bool
    """One optimizer holds both parameters."""
    is_later: bool
    """The other one was made after the first step."""
    steps: tuple[int, ...]
    read: int
    """A call that read it after these."""


def stepped_data(
    index: Index, lives: GradientLives, sharing: StorageGroups, optimizers: list[Optimizer]
) -> Iterator[SteppedData]:
    """One for the parameters of each data, in the order in which they were seen."""
    flags, made_at = (index.recording.tensors.column(name) for name in ("flags", "op"))
    kinds = index.recording.ops.column("kind")
    by_data: dict[int, list[int]] = {}
    for leaf in sorted(lives.steps):
        data = _first_base(sharing, leaf)
        is_of_data = data != leaf and not flags[data] & (PARAMETER | GRADIENT | REQUIRES_GRAD)
        is_of_module = is_of_data and kinds[made_at[data]] == OpKind.GROUP and index.is_made_inside(data)
        if is_of_data and not is_of_module and index.is_leaf(leaf) and not index.moves.get(leaf):
            by_data.setdefault(data, []).append(leaf)
    for data, leaves in by_data.items():
        if index.moves.get(data) or not index.is_floating(data):
            continue
        if len(leaves) > 1:
            yield from _of_two(index, lives, sharing, optimizers, data, leaves)
        elif found := _of_one(index, lives, sharing, data, leaves[0]):
            yield found


def _first_base(sharing: StorageGroups, tensor: int) -> int:
    while (base := sharing.base_of(tensor)) >= 0:
        tensor = base
    return tensor


def _of_one(index: Index, lives: GradientLives, sharing: StorageGroups, data: int, leaf: int) -> SteppedData | None:
    steps = lives.steps[leaf]
    if len(steps) < STEPS:
        return None
    later = [op for op in index.users.of(data) if op > steps[STEPS - 1]]
    if sharing.range_of(leaf) == sharing.range_of(data):
        beside = [op for op in later if leaf in index.uses.of(op) and BESIDE.fullmatch(index.func(op))]
        return SteppedData(leaf, data, NONE, False, False, tuple(steps), beside[0]) if beside else None
    computes = set(used_alone(index, data, NONE))
    for op in later:
        if op in computes and _reads_part(index, sharing, op, data, leaf):
            return SteppedData(leaf, data, NONE, False, False, tuple(steps), op)
    return None


def _reads_part(index: Index, sharing: StorageGroups, op: int, data: int, leaf: int) -> bool:
    """Whether a call takes data into training, and not by a view of what the steps leave alone."""
    on = index.recording.tensors.column("storage")
    made = [
        one
        for one in index.tensors_made(op)
        if on[one] != on[data] or overlap(sharing.range_of(one), sharing.range_of(leaf))
    ]
    is_with_trained = any(index.requires_grad(one, op) for one in index.uses.of(op))
    return bool(made) and (is_with_trained or meets_trained(index, made, op + 1))


def _of_two(
    index: Index,
    lives: GradientLives,
    sharing: StorageGroups,
    optimizers: list[Optimizer],
    data: int,
    leaves: list[int],
) -> Iterator[SteppedData]:
    """What another parameter's steps changed, the first such pair."""
    made_at = index.recording.tensors.column("op")
    for leaf, other in permutations(leaves, 2):
        steps = lives.steps[leaf]
        if sharing.range_of(leaf) != sharing.range_of(other) or len(steps) < STEPS:
            continue
        uses = [op for op in used_alone(index, other, leaf) if op > steps[STEPS - 1]]
        is_together = any({leaf, other} <= one.tensors for one in optimizers)
        if uses and (is_together or steps[-1] not in lives.steps[other]):
            is_later = made_at[other] > steps[0]
            yield SteppedData(leaf, data, other, is_together, is_later, tuple(steps), uses[0])
            return
