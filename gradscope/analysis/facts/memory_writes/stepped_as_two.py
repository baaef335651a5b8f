"""Parameters that lie on the memory of others, and that the same steps of an optimizer write as well.

``x.weight.data = y.weight.data`` and ``x.weight = nn.Parameter(y.weight)`` make no tie: both are parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from gradscope.analysis.facts.memory_writes.put_on_trained import SETS
from gradscope.analysis.facts.optimizers import Optimizer
from gradscope.analysis.facts.passes.gradient_lives import GradientLives
from gradscope.analysis.facts.storage_groups import StorageGroups, numbers_in, overlap
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import EXTERNAL, LEAF, PARAMETER

STEPS = 2
"""Steps of both from which on it is reported."""
_WRAPPED = EXTERNAL | LEAF | PARAMETER


class SteppedAsTwo(NamedTuple):
    """A parameter, and the older one on whose memory it lies."""

    leaf: int
    other: int
    put_by: int
    """The op that put it there; NONE where it was made of that memory, which no call shows."""
    steps: list[int]
    """Those that wrote both since."""
    holder: Optimizer


def stepped_as_two(
    index: Index, lives: GradientLives, sharing: StorageGroups, optimizers: list[Optimizer]
) -> Iterator[SteppedAsTwo]:
    """Each parameter that one optimizer steps together with the one whose memory it has.

    What one was trained on first and the other later is no such pair: the steps are not the same.
    """
    flags = index.recording.tensors.column("flags")
    by_storage: dict[int, list[int]] = {}
    for leaf, steps in lives.steps.items():
        if flags[leaf] & PARAMETER and steps:
            by_storage.setdefault(index.storage_at(leaf, steps[-1]), []).append(leaf)
    for leaves in by_storage.values():
        for leaf in leaves if len(leaves) > 1 else ():
            put_by = _put_by(index, leaf)
            for other in sorted(leaves):
                if other == leaf or not _is_on(index, sharing, leaf, other, put_by):
                    continue
                steps = sorted(op for op in {*lives.steps[leaf]} & {*lives.steps[other]} if op > put_by)
                both = next((one for one in optimizers if {leaf, other} <= one.tensors), None)
                if both is not None and len(steps) >= STEPS:
                    yield SteppedAsTwo(leaf, other, put_by, steps, both)
                    break


def _put_by(index: Index, leaf: int) -> int:
    """The last op that put a parameter on other memory by ``x.data = y`` or ``set_``; NONE where none did."""
    moves = [op for op, _ in index.moves.get(leaf, ()) if index.func(op) in SETS]
    return moves[-1] if moves else NONE


def _is_on(index: Index, sharing: StorageGroups, leaf: int, other: int, put_by: int) -> bool:
    """Whether a parameter was put on elements that the other one had before it."""
    if _put_by(index, other) >= 0:
        return False
    if put_by >= 0:
        return index.layout_at(leaf, index.op_count) == index.layout_at(other, index.op_count)
    flags = index.recording.tensors.column("flags")
    return (
        flags[leaf] & _WRAPPED == _WRAPPED
        and other < leaf
        and not index.moves.get(leaf)
        and not index.moves.get(other)
        and not index.is_new_parameter(leaf)
        and _is_dense(index, sharing, leaf)
        and _is_dense(index, sharing, other)
        and overlap(sharing.range_of(leaf), sharing.range_of(other))
    )


def _is_dense(index: Index, sharing: StorageGroups, tensor: int) -> bool:
    """Whether a tensor has every element of the bytes that it spans: two such that overlap have some in common."""
    layout = index.recording.layouts[index.recording.tensors.column("layout")[tensor]]
    first, end = sharing.range_of(tensor)
    return bool(numbers_in(index.recording.text(layout.stride))) and end - first == layout.nbytes
