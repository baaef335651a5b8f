"""What other threads computed with gradients while the thread that waited for them had them switched off.

Grad mode belongs to a thread: one that is started, or given work, under ``no_grad`` has it on. That this was not meant
shows where the results go on into a graph, as no result of the region itself would.
"""

from __future__ import annotations

from typing import NamedTuple

from gradscope.analysis.facts.passes.passes import Passes
from gradscope.analysis.facts.tracking.grad_regions import GradRegions
from gradscope.analysis.index import Index
from gradscope.recording import NONE
from gradscope.recording.flags import GRAD


class TrackedInThread(NamedTuple):
    """Results of one region that a backward pass walked."""

    region: int
    """The op that put grad mode off."""
    tensors: tuple[int, ...]
    """What other threads made meanwhile, and the region's own thread took."""
    taken_by: int
    """The call that took the first of them."""
    walked_by: int


def tracked_in_threads(index: Index, regions: GradRegions, passes: Passes) -> list[TrackedInThread]:
    """One for each statement that put grad mode off."""
    ops, tensors = index.recording.ops, index.recording.tensors
    threads, flags = ops.column("thread"), ops.column("flags")
    if len(set(threads)) < 2:
        return []
    nodes, made_at = tensors.column("node"), tensors.column("op")
    found: dict[int, list[tuple[int, int, int]]] = {}
    for use, taker in zip(*(index.recording.uses.column(name) for name in ("tensor", "op")), strict=True):
        made, node = made_at[use], nodes[use]
        if node < 0 or made >= taker or threads[made] == threads[taker] or not flags[taker] & flags[made] & GRAD:
            continue
        region = regions.off_in(threads[taker], made)
        if region >= 0 and passes.first_walked_at[node] >= taker:
            found.setdefault(index.op_statement[region], []).append((use, taker, region))
    by_statement = _tracked_elsewhere(index) if found else {}
    return [
        TrackedInThread(
            taken[0][2],
            tuple(dict.fromkeys(use for use, _, _ in taken)),
            taken[0][1],
            passes.first_walked_at[nodes[taken[0][0]]],
        )
        for taken in found.values()
        if not any(
            regions.off_in(threads[taker], other) == NONE
            for use, taker, _ in taken
            for other in by_statement.get(index.op_statement[made_at[use]], ())
        )
    ]


def _tracked_elsewhere(index: Index) -> dict[int, list[int]]:
    """For each statement the ops that it made, with gradients on, in threads other than the first one that made any."""
    ops = index.recording.ops
    threads, flags = ops.column("thread"), ops.column("flags")
    found: dict[int, list[int]] = {}
    for op, statement in enumerate(index.op_statement):
        if threads[op] != threads[0] and flags[op] & GRAD:
            found.setdefault(statement, []).append(op)
    return found
